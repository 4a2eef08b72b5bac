"""The coordinator's errors, named by condition.

The message of each is the one line that the operator sees: what was wrong, where, and what to do.
HTTP status codes belong to the HTTP faces, not here.
"""

from __future__ import annotations

from typing import ClassVar

from contract.errors import TabfleetError


class SettingsError(TabfleetError):
    """A setting has a value that cannot be used; names the variable, the value, and what it takes."""


class PortConflict(TabfleetError):
    """A port of the plan is out of range, wanted twice, or in use; names who wants it."""


class MemoryPlanError(TabfleetError):
    """The planned children cannot fit the memory limit; names a MAX_CHILDREN that does."""


class BrowserMissing(TabfleetError):
    """No executable for the chosen engine; names the ways out."""


class SiteMissing(TabfleetError):
    """No site file was chosen, or the chosen one cannot be read."""


class FleetFileError(TabfleetError):
    """The fleet file cannot be used; the message names file, line, key and what is expected.

    `public` is what may be said of it without a key: no path, and nothing of the content.
    """

    def __init__(self, message: str, line: int | None = None, key: str = "") -> None:
        super().__init__(message)
        place = "" if line is None else f" in line {line}" + (f" at {key}" if key else "")
        self.public = f"the fleet file is wrong{place}; the log has the reason."


class ProfileError(TabfleetError):
    """Base of what can be wrong with profiles as a whole."""


class NoUsableProfile(ProfileError):
    """Not one profile can be started; names the folder or bucket and each reason."""


class ProfileBackendError(ProfileError):
    """The profile backend could not be read; names bucket or folder, and the cause."""


class KeyFileError(TabfleetError):
    """The key file was named but cannot be used."""


class RunFolderError(TabfleetError):
    """The private folder for running children cannot be made or is not ours."""


class LaunchError(TabfleetError):
    """A child's process could not be started at all."""


class IllegalTransition(TabfleetError):
    """The table of a child's states has no such transition."""


class UnknownChild(TabfleetError):
    """No child has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no child named {name!r}.")
        self.name = name


class NoPage(TabfleetError):
    """The child has no page to look at now."""


class PageSilent(TabfleetError):
    """The child's page did not answer in time."""


class PageFailed(TabfleetError):
    """The child's page, its browser or the child itself failed to do what was asked."""


class ActionRefused(TabfleetError):
    """The operator's action makes no sense in the child's present state."""


class SupervisorFailed(TabfleetError):
    """A task that keeps the fleet alive ended by itself; the coordinator must stop."""


class QueueFull(TabfleetError):
    """Every page is busy and the queue has no room; come back after `retry_after_s` seconds."""

    def __init__(self, length: int, retry_after_s: float) -> None:
        super().__init__(f"All pages are busy and {length} requests wait already; try again later.")
        self.length = length
        self.retry_after_s = retry_after_s


class NotQueued(TabfleetError):
    """Every page is busy and the request is not to wait here; come back after `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("All pages are busy, and this request is to be tried elsewhere before it waits.")
        self.retry_after_s = retry_after_s


class NoBackend(TabfleetError):
    """No child can take the request; `reason` is `none_ready`, `timeout` or `draining`."""

    _LINES: ClassVar[dict[str, str]] = {
        "none_ready": "No page that serves this model is ready; try again later.",
        "timeout": "No page became free in time; try again later.",
        "draining": "The server is shutting down; try again elsewhere.",
    }

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(self._LINES[reason])
        self.reason = reason
        self.retry_after_s = retry_after_s


class UpstreamBroken(TabfleetError):
    """The connection to a child broke, or the child ended its response, before its answer was complete.

    `delivered` is False only if no byte of the request was sent; `answered` is True if the head of the response
    had come.
    """

    def __init__(self, *, delivered: bool = True, answered: bool = False) -> None:
        super().__init__("The connection to the child broke.")
        self.delivered = delivered
        self.answered = answered
