"""The coordinator: fetches profiles, supervises one child per profile, routes requests to the ready ones."""

import contract.logs  # noqa: F401 - it has to load structlog
