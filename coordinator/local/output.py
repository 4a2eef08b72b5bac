"""A child's output: line by line to a log file or to our own stderr, the last lines kept without secrets."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

_KEPT_LINES: Final = 20
_KEPT_CHARS: Final = 400
_MAX_LINE_BYTES: Final = 64 << 10
_CHUNK_BYTES: Final = 8 << 10  # of the shortest lines, each an event of ours, it takes some 50 ms
_PIPE_READS: Final = (1 << 20) // _CHUNK_BYTES + 1  # the most that an unprivileged process's pipe holds (pipe(7))
_UNSAFE: Final = re.compile(r"[^\w.@+-]")
_SECRETS: Final = (
    re.compile(r"(?i)(\b(?:(?:set-)?cookie|(?:proxy-)?authorization)\s*:\s*).+"),  # headers, to the end of the line
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)\S+"),
    re.compile(
        # A limit, without which a line of such names alone takes time that grows with its square.
        r"(?i)((?:cookie|authorization|token|password|passwd|secret|api[_-]?key|session)[\w-]{0,64}"
        r"[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&}]+"
    ),
    re.compile(r"(://)[^/\s:@]+:[^/\s@]+(?=@)"),  # a login in a URL
)
_RUN: Final = re.compile(r"[\w.~+/=-]{28,}")
_DIGIT: Final = re.compile(r"\d")
_LONG_WORD: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.~+-]{27,}={0,2}")


def redact(line: str) -> str:
    """Replace what looks like a credential by ***: named values, URL logins, long random words.

    Takes time in proportion to the line: it is the child that decides what it prints.
    """
    for pattern in _SECRETS:
        line = pattern.sub(r"\1***", line)
    # Long words with a digit near by: tokens of any kind, and now and then a harmless identifier.
    return _RUN.sub(lambda run: _LONG_WORD.sub("***", run[0]) if _DIGIT.search(run[0]) else run[0], line)


class Output:
    """Reads the end of a pipe that the child writes to; call `begin` inside a running loop.

    A pipe of our own, so that waiting for the exit does not wait for grandchildren that hold it open.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """`write` gets each whole line, with its end."""
        self._read_end, self.write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read_end, False)
        self._write = write
        self._rest = b""
        self._last: deque[bytes] = deque(maxlen=_KEPT_LINES)

    def begin(self) -> None:
        """Start reading; the child has its copy of the write end by now."""
        self._close_write_end()
        asyncio.get_running_loop().add_reader(self._read_end, self._read)

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines, redacted and shortened."""
        texts = (line.decode("utf-8", "replace").rstrip()[:_KEPT_CHARS] for line in self._last)
        return tuple(redact(text) for text in texts)

    def drain(self) -> None:
        """Take what the child wrote before it ended: what a pipe holds, at most, as others may still write to it."""
        for _ in range(_PIPE_READS):
            if self._read_end < 0 or not self._read():
                return

    def close(self) -> None:
        """Stop reading; a last line without an end counts as one. Idempotent."""
        self._close_write_end()
        if self._read_end >= 0:
            asyncio.get_running_loop().remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1
        if self._rest:
            self._take(self._rest + b"\n")
            self._rest = b""

    def _close_write_end(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def _read(self) -> bool:
        """Take one chunk, and return if there was any: a child that prints without end leaves the loop to others."""
        try:
            chunk = os.read(self._read_end, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self.close()
            return False
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line + b"\n")
        if len(self._rest) > _MAX_LINE_BYTES:
            self._take(self._rest + b"\n")
            self._rest = b""
        return True

    def _take(self, line: bytes) -> None:
        self._last.append(line)
        with contextlib.suppress(OSError):  # a full disk for logs must not stop the fleet
            self._write(line)


class Logs:
    """Where children's output goes: NAME.log in a folder, or our stderr with each line marked by the name.

    `as_json`: our stderr is one JSON object a line, so what a child says becomes one too.
    """

    def __init__(self, folder: Path | None, *, as_json: bool = False) -> None:
        self._folder = folder
        self._as_json = as_json
        self._files: dict[str, int] = {}

    def writer(self, name: str) -> Callable[[bytes], object]:
        """Return the writer for that child's lines. Raises OSError if its log file cannot be opened."""
        if self._folder is None:
            return functools.partial(_to_stderr, functools.partial(as_json if self._as_json else as_text, name))
        if name not in self._files:
            self._files[name] = self._open(name)
        return functools.partial(os.write, self._files[name])

    def reopen(self) -> None:
        """Open all log files anew by their names, after a rename. One that cannot be opened stays as it is."""
        for name, descriptor in self._files.items():
            try:
                opened = self._open(name)
            except OSError as error:
                log.warning("log_not_reopened", child=name, error=error.strerror)
                continue
            os.dup2(opened, descriptor, inheritable=False)  # the writers that are out keep their number
            os.close(opened)

    def _open(self, name: str) -> int:
        path = (self._folder or Path()) / f"{_UNSAFE.sub('_', name)}.log"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def close(self, name: str) -> None:
        """Close that child's log file."""
        if name in self._files:
            os.close(self._files.pop(name))

    def close_all(self) -> None:
        """Close all log files."""
        for name in tuple(self._files):
            self.close(name)


def as_text(name: str, line: bytes) -> bytes:
    """Return a child's line after the child's name."""
    return f"[{name}] ".encode() + line


def as_json(name: str, line: bytes) -> bytes:
    """Return a child's own event with the child's name in it; any other text as an event of ours, redacted."""
    try:
        event = json.loads(line)
        if isinstance(event, dict):
            return _event(name, event)
    except (ValueError, RecursionError):
        pass
    text = redact(line.decode("utf-8", "replace").rstrip())
    timestamp = datetime.now(UTC).isoformat()
    return _event(name, {"timestamp": timestamp, "level": "info", "event": "child_output", "line": text})


def _event(name: str, event: dict[str, Any]) -> bytes:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    event.pop("child", None)  # whose line it is is not for the child to say
    # Half a surrogate pair is valid in JSON and not in UTF-8.
    return json.dumps({**first, "child": name, **event}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _to_stderr(marked: Callable[[bytes], bytes], line: bytes) -> None:
    sys.stderr.buffer.write(marked(line))
    sys.stderr.buffer.flush()
