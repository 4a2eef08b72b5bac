"""Support for the tests of profiles and keys."""
