"""A check of a site file on a child's page: what the coordinator asks for, and what the child answers.

`POST /check` with {"file": NAME, "text": the site file's text}; the answer is a `SiteCheck`. It holds what stands in
the site file, and nothing of what the page shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

CHECK_PATH: Final = "/check"
CHECK_TIMEOUT_S: Final = 120.0
"""How long a child takes for a check at most, apart from waiting for an answer to the site file's prompt."""

_LONGEST: Final = 500
_MOST_S: Final = 1e9


class CheckOutcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    CHANGED = "changed"
    """The page is not what the site file says."""
    INVALID = "invalid"
    """The site file itself is wrong."""
    LOGGED_OUT = "logged_out"
    """The page shows that it is logged out; with the site file in use that is the login's fault."""
    REFUSED = "refused"
    """The site refused the prompt of the check, as by a quota."""
    UNREACHABLE = "unreachable"
    """The site is away."""
    GIVEN_UP = "given_up"
    """A request came, the page was not up, or it took too long: nothing is known."""


@dataclass(frozen=True)
class CheckedStep:
    """A step that was tried: its mark is ok, warn, skip or fail."""

    name: str
    mark: str
    took_s: float


@dataclass(frozen=True)
class SiteCheck:
    """The answer of a check. `step` is the one that failed, and the rest what is to be looked at for it.

    `line` counts from 1; `key` is the path of the key in the file, and `selector` its value where that is a text.
    """

    outcome: CheckOutcome
    message: str = ""
    step: str | None = None
    file: str | None = None
    line: int | None = None
    key: str | None = None
    selector: str | None = None
    steps: tuple[CheckedStep, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> SiteCheck:
        """Return what a child said; fields of another type count as absent. Raises ValueError for no known outcome."""
        line, steps = body.get("line"), body.get("steps")
        return cls(
            CheckOutcome(str(body.get("outcome"))),
            message=_text(body.get("message")) or "",
            step=_text(body.get("step")),
            file=_text(body.get("file")),
            line=line if type(line) is int else None,
            key=_text(body.get("key")),
            selector=_text(body.get("selector")),
            steps=tuple(map(_step, steps)) if isinstance(steps, list) else (),
        )

    @property
    def place(self) -> str:
        """Where to look, in words: file, line, key and selector, as far as they are known."""
        line = f"{self.file or 'the site file'}, line {self.line}" if self.line else self.file or "the site file"
        key = f" ({self.key})" if self.key else ""
        selector = f": {self.selector!r}" if self.selector else ""
        return f"{line}{key}{selector}"


def _step(given: object) -> CheckedStep:
    step = given if isinstance(given, dict) else {}
    took_s = step.get("took_s")
    # A whole number may be too large for a float, and JSON as Python reads it may hold infinity.
    took = float(took_s) if isinstance(took_s, int | float) and 0 <= took_s < _MOST_S else 0.0
    return CheckedStep(_text(step.get("name")) or "", _text(step.get("mark")) or "", took)


def _text(value: object) -> str | None:
    return value[:_LONGEST].encode(errors="replace").decode() if isinstance(value, str) else None
