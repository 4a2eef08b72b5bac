"""What the coordinator answers, as types that become schemas.

Requests have theirs in the child, which parses them by it. Answers are written as plain JSON there, so that their types
stand here; `tests/api_fuzz` holds them against what is really sent, and finds a field that is not named here.

Wire formats: https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from contract.api_error import ErrorCode
from coordinator.claims.keeper import Trouble
from coordinator.logins.remote import SaveTo
from coordinator.supervision.lifecycle import Reason, State


class ErrorDetail(TypedDict):
    """What was wrong. `param` names the request's parameter at fault; `code` is for programs, `message` for people."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: ErrorCode


class Error(TypedDict):
    """An error in OpenAI's form."""

    error: ErrorDetail


class Model(TypedDict):
    """A model that a page offers. A page tells no date of creation, so `created` is 0."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    """All models there are."""

    object: Literal["list"]
    data: list[Model]


class Live(TypedDict):
    """The process serves."""

    status: Literal["live"]


class Child(TypedDict):
    """A child as everybody may see it. Times are seconds since 1970.

    `login_kept` tells that the child refreshes its login in time, or logs in again by itself; `warnings` are lines for
    people. `held_by` is the cell that has the claim of its login, where another one has it.
    """

    name: str
    state: State
    reason: Reason | None
    since: float
    restarts: int
    in_flight: int
    models: list[str]
    login_expires_at: float | None
    login_kept: bool
    warnings: list[str]
    capture: str | None
    site: str | None
    asleep: bool
    held_by: str | None


class ChildDetail(Child):
    """All that is known of a child; `last_lines` are of its log, without secrets."""

    detail: str | None
    generation: int
    pid: int | None
    slot: int | None
    last_lines: list[str]


class RejectedProfile(TypedDict):
    """A profile that has no child, and why."""

    name: str
    reason: str


class SiteChecked(TypedDict):
    """What the last check of a site's page found. `ok` is null before the first; `checked_at` is in Unix seconds.

    Where it failed, `step` is the check's, and the rest is the place in the site file to look at. `new_file` says why
    another text of the file is not in use.
    """

    site: str
    file: str
    ok: bool | None
    checked_at: float | None
    step: str | None
    line: int | None
    key: str | None
    selector: str | None
    new_file: str | None


class Claims(TypedDict):
    """How many logins this cell has claimed, and which cells there are, as the store of claims told it last.

    `lost` counts claims that ended without having been given back; `store_reached` is false while the store does not
    answer, or refuses. `reason` says what keeps the cell from claiming, and `warnings` says it in a line for people.
    """

    held: int
    cells: list[str]
    lost: int
    store_reached: bool
    reason: Trouble | None


class Ready(TypedDict):
    """Whether a request would find a page, and the children. `unhealthy` names those that should serve and do not.

    Where several coordinators share one set of logins, `cell` is this one's name, `shard`, as i/n, its share where that
    is fixed, and `claims` its part where logins are claimed.
    """

    cell: NotRequired[str]
    shard: NotRequired[str]
    claims: NotRequired[Claims]
    status: Literal["ready", "unready", "draining"]
    children: list[Child]
    unhealthy: list[str]
    rejected_profiles: list[RejectedProfile]
    site_checks: list[SiteChecked]
    spare_browsers: NotRequired[int]
    api_keys: Literal["enforced", "open"]
    warnings: list[str]


class Reloaded(TypedDict):
    """Which children a reload has begun to add, replace and remove."""

    added: list[str]
    replaced: list[str]
    removed: list[str]


class Accepted(TypedDict):
    """The action has begun."""

    status: Literal["accepted"]


class LoginBegun(TypedDict):
    """A browser waits for a person: `link` is a path of this server, which can be opened once, until `expires_at`."""

    profile: str
    save: list[SaveTo]
    link: str
    expires_at: int


Document = dict[str, Any]
Text = str
Picture = Any
