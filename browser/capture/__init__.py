"""Reading an answer from the page's traffic or its DOM."""
