"""TOML files that people write: read against a schema, and explained where they are wrong.

Every mistake is told with its line, its key, what is expected there, and what stands there.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any, Final, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from contract.errors import TabfleetError
from contract.toml_lines import Path, key_lines, line_of

S = TypeVar("S", bound=BaseModel)

NOT_BLANK: Final = r"\S"
ONE_LINE: Final = r"^\S(.*\S)?$"
MAX_SHOWN: Final = 60
# Pydantic's words, and those of somebody who writes a TOML file.
_PLAIN_WORDS: Final = {
    f"String should match pattern '{ONE_LINE}'": "must be one line, without white space around it",
    f"String should match pattern '{NOT_BLANK}'": "must hold more than white space",
    "Input should": "should",
    "Tuple should": "should",
    "String should": "should",
    "a valid array": "a list",
    "an object": "a table",
    "a valid dictionary": "a table",
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
}


class TomlError(TabfleetError):
    """A file that is wrong. `line` counts from 1, `key` is "" where no key is at fault; `problem` is what is wrong."""

    def __init__(self, problem: str, line: int | None = None, key: str = "") -> None:
        super().__init__(f"{key}: {problem}" if key else problem)
        self.problem, self.line, self.key = problem, line, key

    def told(self, file: str) -> str:
        """Return the message for people; `file` is what kind of file it is, and its path."""
        return f"{file}: {self}" if self.line is None else f"{file}, line {self.line}: {self}"


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: where, of which kind by pydantic's names or `rule`, in words, and what stands there."""

    path: Path
    kind: str
    message: str
    found: Any


@dataclass(frozen=True)
class TomlForm(Generic[S]):
    """One kind of file: its schema, whose fields have descriptions, and what its errors must not show.

    `unnamed` is a section whose keys stand in many places, so that none of them is where a key belongs. Of a key in
    `secret` the value is never shown, and of a line that is no TOML nothing but a key that is known.
    """

    schema: type[S]
    unnamed: type[BaseModel] | None = None
    secret: frozenset[str] = field(default_factory=frozenset)

    def read(self, text: str) -> dict[str, Any]:
        """Return what a file's text holds. Raises TomlError where it is no TOML."""
        try:
            return tomllib.loads(text)
        except RecursionError:
            raise TomlError("not valid TOML: it is nested too deep") from None
        except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
            message = str(error)
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
        if place is None:
            raise TomlError(f"not valid TOML: {message}")
        lines = text.splitlines() or [""]
        line = int(place[1] or len(lines))
        key = re.match(r"\s*([\w.\"' -]+?)\s*=", lines[line - 1] if line <= len(lines) else "")
        if key and self.secret and key[1] not in {name for _, names in self._places() for name in names}:
            key = None
        raise TomlError(f"not valid TOML: {message}", line, key[1] if key else "")

    def parse(self, data: Mapping[str, Any], text: str) -> S:
        """Return the model of what `read` gave for a text. Raises TomlError for the first mistake in it."""
        # TOML's dates and times are no kind of value here, and JSON has none.
        if mistakes := [
            Mistake(path, "rule", "is a date or time: put text into quotes", value) for path, value in _dates(data)
        ]:
            raise self.error(mistakes, text)
        try:
            # By way of JSON: strict validation of Python values takes no list for a tuple.
            return self.schema.model_validate_json(json.dumps(data))
        except ValidationError as error:
            mistakes = [
                # Of a table whose keys are free, pydantic marks a wrong key.
                Mistake(
                    tuple(part for part in problem["loc"] if part != "[key]"),
                    problem["type"],
                    problem["msg"],
                    problem["input"],
                )
                for problem in error.errors(include_url=False)
            ]
        raise self.error(mistakes, text)

    def error(self, mistakes: Sequence[Mistake], text: str) -> TomlError:
        """Return the error for the mistake that comes first in the file."""
        lines = key_lines(text)
        # What only follows from a problem inside it is left out: a list that is empty without its bad elements.
        outer = {mistake.path[:length] for mistake in mistakes for length in range(len(mistake.path))}
        mistakes = [mistake for mistake in mistakes if mistake.path not in outer]
        # A key that is missing may be the one that is misspelt on the same line.
        first = min(mistakes, key=lambda mistake: (line_of(lines, mistake.path), mistake.kind == "missing"))
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in first.path).lstrip(".")
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        return TomlError(f"{self._problem(first)}{more}", line_of(lines, first.path), key or "the file")

    def _problem(self, mistake: Mistake) -> str:
        """Return what is wrong with a key, what it takes, and what stands there."""
        *around, key = [part for part in mistake.path if isinstance(part, str)] or [""]
        fields = self._fields(around)
        if mistake.kind == "extra_forbidden":
            return f"unknown key{self._nearest(key, fields)}; expected one of: {', '.join(fields)}"
        described = fields.get(key)
        if described is None and around:  # a name that the file itself chooses: what the table takes is meant
            table = self._fields(around[:-1]).get(around[-1])
            described = table if table and next(_sections_in(table.annotation), None) is None else None
        hint = f"; expected: {described.description}" if described else ""
        if mistake.kind == "missing":
            return f"is missing{hint}"
        message = mistake.message.removeprefix("Value error, ").removesuffix(" after validation, not 0")
        for formal, plain in _PLAIN_WORDS.items():
            message = message.replace(formal, plain)
        found = "a value that is not shown" if key in self.secret else _shown(mistake.found)
        return f"{message}{hint}; found {found}"

    def _nearest(self, key: str, fields: Collection[str]) -> str:
        """Return which key may be meant by one that is not known where it stands."""
        from difflib import get_close_matches  # noqa: PLC0415 - a program that runs has no use for it

        if near := get_close_matches(key, fields, 1):
            return f"; did you mean {near[0]}?"
        if key in self._fields(()):
            return f"; {key} goes to the top of the file, before its first table"
        places = sorted(place for place, known in self._places() if place and key in known)
        return f"; {key} goes to {' or '.join(places)}" if places else ""

    def _places(self, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Collection[str]]]:
        """Yield each section but `unnamed`, as a table's heading names it, "" for the file itself, with its keys."""
        fields = self._fields(path)
        yield f"[{'.'.join(path)}]" if path else "", fields
        for key, known in fields.items():
            section = next(_sections_in(known.annotation), None)
            if section is not None and section is not self.unnamed:
                yield from self._places((*path, key))

    def _fields(self, path: Iterable[str]) -> dict[str, FieldInfo]:
        """Return the fields of the section at a path, by the keys that the file has for them."""
        section: type[BaseModel] = self.schema
        fields: dict[str, FieldInfo] = {}
        for key in (None, *path):
            if key is not None and key in fields:
                section = next(_sections_in(fields[key].annotation), section)
            fields = {known.alias or name: known for name, known in section.model_fields.items()}
        return fields


def _dates(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the dates and times in a document, with their paths."""
    if isinstance(value, date | time):
        yield path, value
    elif isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _dates(part, (*path, key))


def value_at(data: Any, path: Path) -> Any:
    """Return what stands at a path that a document has."""
    for part in path:
        data = data[part]
    return data


def _key(part: str) -> str:
    return part if re.fullmatch(r"[\w-]+", part) else json.dumps(part)


def _shown(value: Any) -> str:
    """Return what stands in the file, shortened, and without the password of an address."""
    if isinstance(value, dict):
        return f"a table with {', '.join(map(_key, value))}" if value else "an empty table"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if not isinstance(value, str):
        return str(value).lower()  # as TOML writes true, inf and nan
    shown = re.sub(r"//.*@", "//…@", value, flags=re.DOTALL)
    return repr(shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…")


def _sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections in a type such as `tuple[Model, ...]` or `Upload | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)
