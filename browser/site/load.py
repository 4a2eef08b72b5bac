"""Reading site files: the TOML that says what a chat page looks like."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any, get_args
from urllib.parse import urljoin, urlsplit

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from browser.errors import SiteError
from browser.site.rules import problems
from browser.site.schema import NOT_BLANK, ONE_LINE, Action, Section, Site
from browser.site.toml_lines import Path, key_lines, line_of

__all__ = ["SITES_DIR", "Site", "find_site", "load_site", "parse_site"]

SITES_DIR = FilePath(__file__).resolve().parents[2] / "sites"
URL_VARIABLE = "SITE_URL"
MAX_SHOWN = 60
# Pydantic's words, and those of somebody who writes a TOML file.
_PLAIN_WORDS = {
    f"String should match pattern '{ONE_LINE}'": "must be one line, without white space around it",
    f"String should match pattern '{NOT_BLANK}'": "must hold more than white space",
    "Input should": "should",
    "Tuple should": "should",
    "String should": "should",
    "a valid array": "a list",
    "an object": "a table",
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
}


def load_site(name_or_path: str, *, shown: str | None = None) -> Site:
    """Load `sites/NAME.toml`, or the file at a path. The variable SITE_URL, when set, replaces its url.

    `shown` is what messages call the file, where that is not its path.

    Where SITE_URL has no path of its own, the path of the file's url stays. Raises SiteError, whose
    message names the file, the line, the key and what is expected.
    """
    path = find_site(name_or_path)
    return parse_site(read_site_file(path), shown or str(path), url=os.environ.get(URL_VARIABLE) or None)


def read_site_file(path: FilePath) -> str:
    """Return a site file's text, without the byte order mark that editors on Windows write. Raises SiteError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SiteError(f"site file {path}: cannot read it: {problem}") from None


def find_site(name_or_path: str) -> FilePath:
    """Return the path of a site file. Raises SiteError if it is given by a name that is not there."""
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return FilePath(name_or_path)
    path = SITES_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SITES_DIR.glob("*.toml")))
        raise SiteError(f"site {name_or_path!r}: there is no such site file; known: {known}; or give a path")
    return path


def parse_site(text: str, file: str, *, url: str | None = None) -> Site:
    """Return the Site of a site file's text; `url` replaces the one in it, as SITE_URL does. Raises SiteError."""
    data = _read_toml(text, file)
    if url:
        if not urlsplit(url).path.strip("/") and isinstance(data.get("url"), str):
            url = urljoin(url, urlsplit(data["url"])._replace(scheme="", netloc="").geturl())
        data["url"] = url
    # TOML's dates and times are no kind of value here, and JSON has none.
    if dates := list(_dates(data)):
        mistakes = [_Mistake(path, "rule", "is a date or time: put text into quotes", value) for path, value in dates]
        raise SiteError(_explain(mistakes, text, file, url))
    try:
        # By way of JSON: strict validation of Python values takes no list for a tuple.
        site = Site.model_validate_json(json.dumps(data))
    except ValidationError as error:
        mistakes = [
            _Mistake(problem["loc"], problem["type"], problem["msg"], problem["input"])
            for problem in error.errors(include_url=False)
        ]
    else:
        mistakes = [
            _Mistake(problem.path, "rule", problem.message, _value_at(data, problem.path)) for problem in problems(site)
        ]
        if not mistakes:
            return site
    raise SiteError(_explain(mistakes, text, file, url))


def _read_toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise SiteError(f"site file {file}: not valid TOML: it is nested too deep") from None
    except ValueError as error:  # TOMLDecodeError, or a number of thousands of digits
        message = str(error)
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if place is None:
        raise SiteError(f"site file {file}: not valid TOML: {message}")
    lines = text.splitlines() or [""]
    line = int(place[1] or len(lines))
    key = re.match(r"\s*([\w.\"' -]+?)\s*=", lines[line - 1] if line <= len(lines) else "")
    named = f"{key[1]}: " if key else ""
    raise SiteError(f"site file {file}, line {line}: {named}not valid TOML: {message}")


@dataclass(frozen=True)
class _Mistake:
    """One thing that is wrong: where, of which kind by pydantic's names or `rule`, in words, and what stands there."""

    path: Path
    kind: str
    message: str
    found: Any


def _dates(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the dates and times in a document, with their paths."""
    if isinstance(value, date | time):
        yield path, value
    elif isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _dates(part, (*path, key))


def _value_at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _explain(mistakes: Sequence[_Mistake], text: str, file: str, url: str | None) -> str:
    """Return the message for the mistake that comes first in the file."""
    lines = key_lines(text)
    # What only follows from a problem inside it is left out: a list that is empty without its bad elements.
    outer = {mistake.path[:length] for mistake in mistakes for length in range(len(mistake.path))}
    mistakes = [mistake for mistake in mistakes if mistake.path not in outer]
    first = min(mistakes, key=lambda mistake: line_of(lines, mistake.path))
    if url and first.path == ("url",):
        return f"{URL_VARIABLE}: {_problem(first)}"
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in first.path).lstrip(".")
    more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
    return f"site file {file}, line {line_of(lines, first.path)}: {key or 'the file'}: {_problem(first)}{more}"


def _key(part: str) -> str:
    return part if re.fullmatch(r"[\w-]+", part) else json.dumps(part)


def _problem(mistake: _Mistake) -> str:
    """Return what is wrong with a key, what it takes, and what stands there."""
    *around, key = [part for part in mistake.path if isinstance(part, str)] or [""]
    fields = _fields(around)
    if mistake.kind == "extra_forbidden":
        return f"unknown key{_nearest(key, fields)}; expected one of: {', '.join(fields)}"
    hint = f"; expected: {fields[key].description}" if key in fields else ""
    if mistake.kind == "missing":
        return f"is missing{hint}"
    message = mistake.message.removeprefix("Value error, ").removesuffix(" after validation, not 0")
    for formal, plain in _PLAIN_WORDS.items():
        message = message.replace(formal, plain)
    return f"{message}{hint}; found {_shown(mistake.found)}"


def _nearest(key: str, fields: Collection[str]) -> str:
    """Return which key may be meant by one that is not known where it stands."""
    if near := get_close_matches(key, fields, 1):
        return f"; did you mean {near[0]}?"
    if key in _fields(()):
        return f"; {key} goes to the top of the file, before its first table"
    places = sorted(place for place, known in _sections() if key in known)
    return f"; {key} goes to {' or '.join(places)}" if places else ""


def _sections(path: tuple[str, ...] = ()) -> Iterator[tuple[str, Collection[str]]]:
    """Yield each section but those of steps, as a table's heading names it, with its keys."""
    fields = _fields(path)
    if path:
        yield f"[{'.'.join(path)}]", fields
    for key, field in fields.items():
        section = next(_sections_in(field.annotation), None)
        if section is not None and section is not Action:
            yield from _sections((*path, key))


def _shown(value: Any) -> str:
    """Return what stands in the file, shortened, and without the password of an address."""
    if isinstance(value, dict):
        return f"a table with {', '.join(map(_key, value))}" if value else "an empty table"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if not isinstance(value, str):
        return str(value).lower()  # as TOML writes true, inf and nan
    shown = re.sub(r"//[^/]*@", "//…@", value)
    return repr(shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…")


def _fields(path: Iterable[str]) -> dict[str, FieldInfo]:
    """Return the fields of the section at a path, by the keys that the file has for them."""
    section: type[Section] = Site
    fields: dict[str, FieldInfo] = {}
    for key in (None, *path):
        if key is not None and key in fields:
            section = next(_sections_in(fields[key].annotation), section)
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
    return fields


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections in a type such as `tuple[Model, ...]` or `Upload | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)
