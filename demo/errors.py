"""Errors of the demo; each message is one line for the user."""

from __future__ import annotations


class DemoError(Exception):
    """Base of all errors that the demo raises."""


class ChromiumMissing(DemoError):
    """No Chromium was found."""


class LoginFailed(DemoError):
    """Logging in with the browser failed."""


class CoordinatorEnded(DemoError):
    """The coordinator exited by itself; `log` is the end of its log."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class NotReady(CoordinatorEnded):
    """No child became ready in time."""


class WrongAnswer(DemoError):
    """The API returned another answer than the site generated."""
