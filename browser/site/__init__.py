"""Site files: what a chat page looks like."""
