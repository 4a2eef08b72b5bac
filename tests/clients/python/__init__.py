"""One script for each client in Python; each runs on its own environment, and imports `protocol` of this folder only."""
