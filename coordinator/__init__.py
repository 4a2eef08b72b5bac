"""The coordinator: fetches profiles, supervises one child per profile, routes requests to the ready ones."""

import api_utils.quick_start  # noqa: F401
