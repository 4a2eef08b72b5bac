"""Playwright storage_state: parse, validate, fingerprint, expiry."""
