"""Tries a site file on the real page, step by step: `python -m browser.check --help`."""
