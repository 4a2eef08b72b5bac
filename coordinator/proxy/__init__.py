"""One chat request from its admission to the last byte of its answer."""
