"""The child's routes, one module a concern."""
