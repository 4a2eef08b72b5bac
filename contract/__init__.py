"""What both programs agree on: keys, logging, exit and error codes, names, storage state."""
