"""The chat page: opened, watched, asked."""
