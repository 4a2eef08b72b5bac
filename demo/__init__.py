"""An embedded web chat site to run against: a stand-in for a page that nobody here controls."""
