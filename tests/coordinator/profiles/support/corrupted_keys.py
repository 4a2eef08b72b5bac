"""Corrupted key files: each with a cause of its own, and the exact message it must be given."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DIGEST = hashlib.sha256(b"hashed-key").hexdigest()


@dataclass(frozen=True)
class KeyFile:
    """A key file's bytes, or how to place something else in its stead; the message, or the keys it holds."""

    cause: str
    content: bytes = b""
    message: str = ""
    keys: frozenset[str] = field(default_factory=frozenset)
    place: Callable[[Path], object] | None = None
    fault: OSError | None = None
    """What reading it fails with."""

    def put(self, path: Path) -> None:
        if self.place:
            self.place(path)
        else:
            path.write_bytes(self.content)

    @contextmanager
    def reading_fails(self) -> Iterator[None]:
        """Make reading it fail as it says."""
        if self.fault is None:
            yield
        else:
            with patch.object(Path, "read_bytes", side_effect=self.fault):
                yield


def _line(number: int) -> str:
    return (
        f"key file key.txt, line {number}: a key has no spaces or control characters, and only its role may follow it"
        " (role=call, role=view, role=operate)"
    )


def _digest_line(number: int) -> str:
    return f"key file key.txt, line {number}: sha256: takes exactly 64 hex digits"


_NOT_A_FILE = "key file FOLDER/key.txt is missing or not a file; create it or unset the variable that names it"
_NOT_TEXT = "key file key.txt is not UTF-8 text; save it as UTF-8, one key a line"

_NO_SUCH_ROLE = "key file key.txt, line 1: there is no such role; a key has one of role=call, role=view, role=operate"

ALL = (
    KeyFile("a key with a space", b"first second\n", _line(1)),
    KeyFile("a key with a tab, after a comment", b"# keys\n\nfirst\tsecond\n", _line(3)),
    KeyFile("a key with a control character", b"good\nfirst\x07\n", _line(2)),
    KeyFile("a NUL byte", b"first\x00\n", _line(1)),
    KeyFile("an unseen direction mark", "first\u202e\n".encode(), _line(1)),
    KeyFile("a digest cut short", b"sha256:" + _DIGEST[:-1].encode(), _digest_line(1)),
    KeyFile("a digest too long", b"sha256:" + _DIGEST.encode() + b"0", _digest_line(1)),
    KeyFile("a digest of no hex digits", b"sha256:" + b"g" * 64, _digest_line(1)),
    KeyFile("a digest with a space", b"sha256: " + _DIGEST.encode(), _line(1)),
    KeyFile("a role of no kind", b"first role=admin\n", _NO_SUCH_ROLE),
    KeyFile("a role in capitals", b"first role=OPERATE\n", _NO_SUCH_ROLE),
    KeyFile("a role without a name", b"first role=\n", _NO_SUCH_ROLE),
    KeyFile("two roles", b"first role=view role=operate\n", _line(1)),
    KeyFile("a word after the role", b"first role=view ann\n", _line(1)),
    KeyFile("a control character before the role", b"fi\x07rst role=view\n", _line(1)),
    KeyFile("a role without a key", b" role=operate\n", "key file key.txt, line 1: there is no key before the role"),
    KeyFile(
        "a key in two roles",
        b"hashed-key role=operate\nother\nsha256:" + _DIGEST.encode() + b"\n",
        "key file key.txt, line 3: this key stands further up with another role; delete one of the two",
    ),
    KeyFile("Latin-1", b"cl\xe9\n", _NOT_TEXT),
    KeyFile("UTF-16", "first\n".encode("utf-16"), _NOT_TEXT),
    KeyFile(
        "more than keys",
        b"x" * (1024 * 1024 + 1),
        "key file key.txt is larger than 1048576 bytes; is it the right file?",
    ),
    KeyFile(
        "a file that is not ours to read",
        b"first\n",
        f"key file FOLDER/key.txt cannot be read by uid {os.getuid()}: Permission denied; check its mode and owner",
        fault=PermissionError(errno.EACCES, "Permission denied"),
    ),
    KeyFile("a folder", message=_NOT_A_FILE, place=lambda path: path.mkdir()),
    KeyFile("a named pipe", message=_NOT_A_FILE, place=os.mkfifo),
)
SOUND = (
    KeyFile("empty"),
    KeyFile("only comments and blank lines", b"# none\n\n   \n"),
    KeyFile("a byte order mark", b"\xef\xbb\xbffirst\n", keys=frozenset({"first"})),
    KeyFile("Windows line ends", b"first\r\nsecond\r\n", keys=frozenset({"first", "second"})),
    KeyFile("no line end", b"first", keys=frozenset({"first"})),
    KeyFile("spaces around a key", b"  first \n", keys=frozenset({"first"})),
    KeyFile("one key twice", b"first\nfirst\n", keys=frozenset({"first"})),
    KeyFile("hashed and plain", f"sha256:{_DIGEST.upper()}\nfirst\n".encode(), keys=frozenset({"hashed-key", "first"})),
    KeyFile("roles", b"first role=view\nsecond\trole=operate\n", keys=frozenset({"first", "second"})),
    KeyFile("letters of other scripts", "schl\xfcssel\n".encode(), keys=frozenset({"schl\xfcssel"})),
)
