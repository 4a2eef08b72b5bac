"""Tests of the demo site, and of the demo as a whole."""
