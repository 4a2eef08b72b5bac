"""What can go wrong in the demo; each message is a line for people."""


class DemoError(Exception):
    """The demo cannot go on."""


class ChromiumMissing(DemoError):
    """There is no Chromium to log in with."""


class LoginFailed(DemoError):
    """The browser did not get through the login form."""


class CoordinatorEnded(DemoError):
    """The coordinator ended by itself; `log` is the end of what it wrote."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


class NotReady(CoordinatorEnded):
    """No child became ready in time."""


class WrongAnswer(DemoError):
    """The API's answer is not the one that the site gave."""
