"""Real clients, each in an environment of its own, against a real fleet on the demo site: `make test-clients`."""
