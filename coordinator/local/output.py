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
from typing import Final

_KEPT_LINES: Final = 20
_KEPT_CHARS: Final = 400
_MAX_LINE_BYTES: Final = 64 << 10
_UNSAFE: Final = re.compile(r"[^\w.@+-]")
_SECRETS: Final = (
    re.compile(r"(?i)(\b(?:(?:set-)?cookie|(?:proxy-)?authorization)\s*:\s*).+"),  # headers, to the end of the line
    re.compile(r"(?i)(\b(?:bearer|basic)\s+)\S+"),
    re.compile(
        r"(?i)((?:cookie|authorization|token|password|passwd|secret|api[_-]?key|session)[\w-]*"
        r"[\"']?\s*[:=]\s*[\"']?)[^\s\"',;&}]+"
    ),
    re.compile(r"(://)[^/\s:@]+:[^/\s@]+(?=@)"),  # a login in a URL
    # Long words with a digit: tokens of any kind, and now and then a harmless identifier.
    re.compile(r"()\b(?=[\w.~+/-]*\d)[A-Za-z0-9_.~+-]{28,}={0,2}"),
)


def redact(line: str) -> str:
    """Replace what looks like a credential by ***: named values, URL logins, long random words."""
    for pattern in _SECRETS:
        line = pattern.sub(r"\1***", line)
    return line


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
        """Take what the child wrote before it ended."""
        if self._read_end >= 0:
            self._read()

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

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._read_end, _MAX_LINE_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self.close()
                return
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._take(line + b"\n")
            if len(self._rest) > _MAX_LINE_BYTES:
                self._take(self._rest + b"\n")
                self._rest = b""

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
            path = self._folder / f"{_UNSAFE.sub('_', name)}.log"
            self._files[name] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return functools.partial(os.write, self._files[name])

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
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        text = redact(line.decode("utf-8", "replace").rstrip())
        event = {"timestamp": datetime.now(UTC).isoformat(), "level": "info", "event": "child_output", "line": text}
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return json.dumps({**first, "child": name, **event}, ensure_ascii=False).encode() + b"\n"


def _to_stderr(marked: Callable[[bytes], bytes], line: bytes) -> None:
    sys.stderr.buffer.write(marked(line))
    sys.stderr.buffer.flush()
