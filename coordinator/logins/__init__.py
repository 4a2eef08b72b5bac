"""Logins from anywhere: a browser of the fleet, shown by HTTP to a person who logs in, and the login saved."""
