"""The coordinator: fetches profiles, supervises one child per profile, routes requests to the ready ones."""
