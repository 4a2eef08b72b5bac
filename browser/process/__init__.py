"""The browser's process: where the browser is found, how it starts, and how its death is noticed."""
