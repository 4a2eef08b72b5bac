"""Orders to a host, and the news that it gives back. A host is a process that runs several children in one browser.

Both go over one Unix socketpair of the kind SOCK_SEQPACKET, one JSON object a packet:

to the host    {"start": {ChildOrder}}, with one descriptor (SCM_RIGHTS): where the child's lines of log go
               {"end": INSTANCE_ID, "how": "term" | "kill"}
from the host  {"up": true}                                its browser has started
               {"ended": INSTANCE_ID, "code": EXIT_CODE}   nothing of the child is left: neither page, port nor lock
               {"full": true}                              it takes no further child; those that run are served

A host starts its browser at once, and waits for orders: one without a child yet is a spare. It does not know of any
site: each order brings its own. It ends by itself, and its children with it, when the other side is closed. A child
that it is ordered to start when it takes none any more has ended: it says so. A child ends with "term" as a process
does at SIGTERM: its session is saved. With "kill" its page is closed at once.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

MAX_PACKET_BYTES: Final = 64 * 1024
HOST_FLAG: Final = "--host"
"""The flag of `launch_camoufox.py` that is given the number of the inherited socket."""

Ending = Literal["term", "kill"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChildOrder(_Message):
    """One child to start: what a process of its own is told by its command line and environment.

    `site` is a name in sites/ or a path; `site_shown` is the path that messages give of it, where it is a copy;
    `site_url` is the address in place of that in the site file, as SITE_URL is for a process of its own.
    """

    name: str
    profile: Path
    site: str
    site_shown: str | None = None
    site_url: str | None = None
    run_dir: Path
    api_port: int
    generation: int
    instance_id: str
    control_token: Annotated[str, Field(repr=False)]


class Start(_Message):
    """Start a child."""

    start: ChildOrder


class End(_Message):
    """End a child."""

    end: str
    how: Ending


class Up(_Message):
    """The host's browser has started."""

    up: Literal[True] = True


class Ended(_Message):
    """A child has ended, with an exit code as a process of its own would have given."""

    ended: str
    code: int


class Full(_Message):
    """The host takes no further child: its browser is lost, did not start, or the host is about to end."""

    full: Literal[True] = True


_Order: Final[TypeAdapter[Start | End]] = TypeAdapter(Start | End)
_News: Final[TypeAdapter[Up | Ended | Full]] = TypeAdapter(Up | Ended | Full)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Return the coordinator's end and the host's end; neither blocks. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setblocking(False)
    return ours, theirs


def send(end: socket.socket, message: Start | End | Up | Ended | Full, descriptor: int | None = None) -> None:
    """Send an order or news. Raises OSError, also when the other side does not read."""
    data = message.model_dump_json(exclude_none=True).encode()
    socket.send_fds(end, [data], [] if descriptor is None else [descriptor])


def receive_order(end: socket.socket) -> tuple[Start | End, int | None] | None:
    """Return the next order and the descriptor that came with it; None when the other side is closed.

    Raises BlockingIOError if there is none yet, ValueError for what is no order.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(end, MAX_PACKET_BYTES, 1)
    except ConnectionResetError:  # closed, with news unread: what was ordered before is for nobody any more
        return None
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)  # recv_fds of Python 3.11 does not pass MSG_CMSG_CLOEXEC on
    if not data:
        return None
    try:
        return _Order.validate_json(data), descriptors[0] if descriptors else None
    except ValidationError as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise ValueError(f"no order: {error.error_count()} faults") from None  # its text would hold a token


def receive_news(end: socket.socket) -> Up | Ended | Full | None:
    """Return the next news; None when the other side is closed.

    Raises BlockingIOError if there is none yet, ValueError for what is no news.
    """
    try:
        data = end.recv(MAX_PACKET_BYTES)
    except ConnectionResetError:  # closed, with orders unread: told once, ahead of what was said before
        data = end.recv(MAX_PACKET_BYTES)
    return _News.validate_json(data) if data else None
