"""The browser's process: where it is found, how it starts, and how its death is noticed."""
