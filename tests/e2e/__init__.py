"""The whole product: coordinator, children, browsers, demo site, the real client."""
