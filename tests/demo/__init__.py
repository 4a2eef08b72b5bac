"""Tests of the demo site and of `python -m demo`."""
