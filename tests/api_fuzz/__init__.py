"""schemathesis over the OpenAPI document: a real coordinator, and the real child's program over played pages."""
