"""Supervision: one child per profile, each kept by the table of `lifecycle`. `child` says what the names mean."""
