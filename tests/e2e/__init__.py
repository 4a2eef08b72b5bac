"""Tests of the whole product: coordinator, children, browsers, the demo site, and the real OpenAI client."""
