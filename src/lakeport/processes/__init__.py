"""Child processes that cannot outlive the server."""
