"""The coordinator: fetches profiles, supervises one child per profile, routes requests to the ready ones."""

import gc

# What modules make stays: a search for garbage at every 700th object is a tenth of what loading them takes. Requests
# leave no cycles behind either.
gc.set_threshold(10_000)

import contract.logs  # noqa: E402, F401 - it has to load structlog
