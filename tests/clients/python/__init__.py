"""One script for each client in Python, run by the Python of that client's environment."""
