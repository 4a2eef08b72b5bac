"""The child as its callers see it."""
