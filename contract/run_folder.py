"""The files of a child's run folder that both programs know.

session.json    the rotated login, kept over the child's restarts; a renewed one is written before the child's start
logins.json     when the child has logged in by itself, kept as well, for a limit must not begin anew; the child's alone
processes.json  driver and browser group: {"driver": {"pid", "start_time"}, "browser": {"pgid", "start_time"}}
submitted       one request id a line: prompts that may have reached the page; a line "!ID" takes an id back; "ID#2" is
                the second prompt of a request's conversation, which is asked for a repair of the first answer
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from contract.files import append_line, write_private
from contract.processes import ProcessIdentity

SESSION: Final = "session.json"
LOGINS: Final = "logins.json"
KEPT: Final = frozenset({SESSION, LOGINS})
"""The files that stay over a child's restarts."""
PROCESSES: Final = "processes.json"
SUBMITTED: Final = "submitted"

_TAKEN_BACK: Final = "!"  # no request id holds this, nor a #

Role = Literal["driver", "browser"]
_ID_KEY: Final[Mapping[Role, str]] = {"driver": "pid", "browser": "pgid"}


def session_content(source_sha256: str, state: Mapping[str, Any]) -> bytes:
    """Return the content of SESSION: a browser's storage_state, and the SHA-256 of the profile that it came of."""
    return json.dumps({"source_sha256": source_sha256, "storage_state": state}).encode()


def submission_id(request_id: str, number: int) -> str:
    """Return what the file calls the request's prompt of this number, 1 for the first of its conversation.

    A prompt that follows has an id of its own, so that taking it back leaves the first one marked: whoever asks
    whether the request may be given to another child is told that it was submitted.
    """
    return request_id if number == 1 else f"{request_id}#{number}"


def mark_submitted(folder: Path, request_id: str) -> None:
    """Note, on the disk, that this request's prompt may reach the page from now on. Raises OSError."""
    append_line(folder / SUBMITTED, request_id)


def unmark_submitted(folder: Path, request_id: str) -> None:
    """Take a mark back: the site has said that it did not take this request's prompt. Raises OSError."""
    append_line(folder / SUBMITTED, _TAKEN_BACK + request_id)


def read_submitted(folder: Path) -> frozenset[str] | None:
    """Return the ids that were marked; None if that cannot be told.

    A last line without an end is a cut id, which may be that of any request. A file that is missing was there when the
    child was started, and somebody has taken it away.
    """
    try:
        content = (folder / SUBMITTED).read_bytes()
    except OSError:
        return None
    if content and not content.endswith(b"\n"):
        return None
    marked: set[str] = set()
    for line in content.decode("utf-8", "replace").split():
        if line.startswith(_TAKEN_BACK):
            marked.discard(line.removeprefix(_TAKEN_BACK))
        else:
            marked.add(line)
    return frozenset(marked)


def write_processes(folder: Path, processes: Mapping[Role, ProcessIdentity]) -> None:
    """Write down the driver's process and the browser's group for whoever cleans up. Raises OSError."""
    data = {role: {_ID_KEY[role]: found.pid, "start_time": found.start_time} for role, found in processes.items()}
    write_private(folder / PROCESSES, json.dumps(data).encode())


def read_processes(folder: Path) -> dict[Role, ProcessIdentity]:
    """Return what was written down, as far as it can be read."""
    try:
        content: Any = json.loads((folder / PROCESSES).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    found: dict[Role, ProcessIdentity] = {}
    for role, key in _ID_KEY.items():
        try:
            identity = ProcessIdentity(int(content[role][key]), int(content[role]["start_time"]))
        except (TypeError, KeyError, ValueError, OverflowError):
            continue
        if identity.pid > 1:
            found[role] = identity
    return found
