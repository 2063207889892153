"""Where features of primary keys come from."""
