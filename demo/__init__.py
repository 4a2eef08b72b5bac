"""The embedded demo: a web chat site with a login, and a fleet of the product running against it."""
