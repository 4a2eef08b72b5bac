"""What both programs agree on, each module by itself."""
