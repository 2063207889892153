"""A live workspace in your tests: the pytest plugin and what it gives."""
