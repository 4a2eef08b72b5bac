"""Reading site files: the TOML that says what a chat page looks like."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urljoin, urlsplit

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from browser.errors import SiteError
from browser.site.schema import Section, Site
from browser.site.toml_lines import key_lines, line_of

__all__ = ["SITES_DIR", "Site", "find_site", "load_site", "parse_site"]

SITES_DIR = Path(__file__).resolve().parents[2] / "sites"
URL_VARIABLE = "SITE_URL"
# Pydantic's words, and those of somebody who writes a TOML file.
_PLAIN_WORDS = {
    "Input should": "should",
    "Tuple should": "should",
    "String should": "should",
    "a valid array": "a list",
    "an object": "a table",
    "a valid string": "text",
    "a valid integer": "a whole number",
    "a valid number": "a number",
}


def load_site(name_or_path: str) -> Site:
    """Load `sites/NAME.toml`, or the file at a path. The variable SITE_URL, when set, replaces its url.

    Where SITE_URL has no path of its own, the path of the file's url stays. Raises SiteError, whose
    message names the file, the line, the key and what is expected.
    """
    path = find_site(name_or_path)
    return parse_site(read_site_file(path), str(path), url=os.environ.get(URL_VARIABLE) or None)


def read_site_file(path: Path) -> str:
    """Return a site file's text, without the byte order mark that editors on Windows write. Raises SiteError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SiteError(f"site file {path}: cannot read it: {problem}") from None


def find_site(name_or_path: str) -> Path:
    """Return the path of a site file. Raises SiteError if it is given by a name that is not there."""
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return Path(name_or_path)
    path = SITES_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SITES_DIR.glob("*.toml")))
        raise SiteError(f"site {name_or_path!r}: there is no such site file; known: {known}; or give a path")
    return path


def parse_site(text: str, file: str, *, url: str | None = None) -> Site:
    """Return the Site of a site file's text; `url` replaces the one in it, as SITE_URL does. Raises SiteError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SiteError(f"site file {file}: not valid TOML: {error}") from None
    if url:
        if not urlsplit(url).path.strip("/") and isinstance(data.get("url"), str):
            url = urljoin(url, urlsplit(data["url"])._replace(scheme="", netloc="").geturl())
        data["url"] = url
    try:
        # By way of JSON: strict validation of Python values takes no list for a tuple. A date becomes a string,
        # which is then told to be no text, or no number.
        return Site.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise SiteError(_explain(error, text, file, url)) from None


def _explain(error: ValidationError, text: str, file: str, url: str | None) -> str:
    """Return the message for the problem that comes first in the file."""
    lines = key_lines(text)
    problems = error.errors(include_url=False)
    paths = [problem["loc"] for problem in problems]
    # What only follows from a problem inside it is left out: a list that is empty without its bad elements.
    outer = {path[:length] for path in paths for length in range(len(path))}
    problems = [problem for problem in problems if problem["loc"] not in outer]
    first = min(problems, key=lambda problem: line_of(lines, problem["loc"]))
    if url and first["loc"] == ("url",):
        return f"{URL_VARIABLE}: {_problem(first)}"
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"site file {file}, line {line_of(lines, first['loc'])}: {key or 'the file'}: {_problem(first)}{more}"


def _problem(problem: ErrorDetails) -> str:
    """Return what is wrong with a key, and the description of what it takes."""
    *around, key = [part for part in problem["loc"] if isinstance(part, str)] or [""]
    fields = _fields(around)
    if problem["type"] == "extra_forbidden":
        return f"unknown key; expected one of: {', '.join(fields)}"
    hint = f"; expected: {fields[key].description}" if key in fields else ""
    if problem["type"] == "missing":
        return f"is missing{hint}"
    message = problem["msg"].removeprefix("Value error, ").removesuffix(" after validation, not 0")
    for formal, plain in _PLAIN_WORDS.items():
        message = message.replace(formal, plain)
    return message + hint


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
