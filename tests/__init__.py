"""Tests. Shared helpers are in `tests.support`."""
