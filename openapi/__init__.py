"""The OpenAPI document of what the coordinator serves: `python -m openapi` writes it. No program imports this."""
