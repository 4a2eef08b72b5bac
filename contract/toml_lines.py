"""Line numbers of the keys in a TOML document, which the standard parser does not keep.

Grammar: https://toml.io/en/v1.0.0. The text must be valid TOML already.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'''
    """ (?: \\. | [^\\] )*? """ (?!")
    | \'{3} .*? \'{3} (?!\')
    | " (?: \\. | [^"\\\n] )* "
    | \' [^\'\n]* \'
    ''',
    re.DOTALL | re.VERBOSE,
)
_SCALAR = re.compile(r"[^,\]}\n#]*")


def key_lines(text: str) -> dict[Path, int]:
    """Return the line (1 = first) of each key, table and array element, by its path."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of the path, or of the nearest table around it that stands in the text."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Scanner:
    """Goes through a document once and notes the line of each key that it passes."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._array_sizes: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip(_BLANK) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._at)
        self._at += 2 if is_array else 1
        line = self._line()
        parts = self._dotted_key()
        self._at += 2 if is_array else 1
        path: Path = ()
        for depth, part in enumerate(parts, 1):
            path = (*path, part)
            self.lines.setdefault(path, line)
            if is_array and depth == len(parts):
                self._array_sizes[path] = self._array_sizes.get(path, 0) + 1
            if path in self._array_sizes:
                path = (*path, self._array_sizes[path] - 1)
                self.lines.setdefault(path, line)
        return path

    def _pair(self, table: Path) -> None:
        line = self._line()
        path = table
        for part in self._dotted_key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._at += 1  # the equals sign
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self._text[self._at]
        if opening not in "[{":
            self._take(_STRING) or self._take(_SCALAR)
            return
        self._at += 1
        closing, index = {"[": "]", "{": "}"}[opening], 0
        while self._text[self._skip(_BLANK)] != closing:
            if opening == "{":
                self._pair(path)
            else:
                self.lines[*path, index] = self._line()
                self._value((*path, index))
                index += 1
            if self._text[self._skip(_BLANK)] == ",":
                self._at += 1
        self._at += 1

    def _dotted_key(self) -> list[str]:
        parts = [self._key()]
        while self._text[self._skip(_SPACE)] == ".":
            self._at += 1
            self._skip(_SPACE)
            parts.append(self._key())
        return parts

    def _key(self) -> str:
        self._skip(_SPACE)
        return self._take(_BARE_KEY) or str(tomllib.loads(f"key = {self._take(_STRING)}")["key"])

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _skip(self, pattern: re.Pattern[str]) -> int:
        self._take(pattern)
        return self._at

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1
