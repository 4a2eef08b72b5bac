"""The coordinator: fetches profiles, supervises one child per profile, routes requests to the ready ones."""

import contract.structlog_without_rich  # noqa: F401
