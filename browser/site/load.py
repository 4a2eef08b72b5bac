"""Reading site files: the TOML that says what a chat page looks like."""

import json
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urljoin, urlsplit

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from browser.errors import SiteError
from browser.site.schema import Section, Site
from browser.site.toml_lines import key_lines, line_of

__all__ = ["SITES_DIR", "Site", "find_site", "load_site", "parse_site"]

SITES_DIR = Path(__file__).resolve().parents[2] / "sites"
URL_VARIABLE = "SITE_URL"
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
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SiteError(f"site file {path}: cannot read it: {problem}") from None
    return parse_site(text, str(path), url=os.environ.get(URL_VARIABLE) or None)


def parse_site(text: str, file: str, *, url: str | None = None) -> Site:
    """Make a Site of a site file's text; `url` replaces the one in it, as SITE_URL does. Raises SiteError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SiteError(f"site file {file}: not valid TOML: {error}") from None
    try:
        return Site.model_validate_json(json.dumps(_with_url(data, url), default=str))
    except ValidationError as error:
        raise SiteError(_explain(error, text, file, url)) from None


def find_site(name_or_path: str) -> Path:
    """Return the path of a site file. Raises SiteError if it is given by a name that is not there."""
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return Path(name_or_path)
    path = SITES_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SITES_DIR.glob("*.toml")))
        raise SiteError(f"site {name_or_path!r}: there is no such site file; known: {known}; or give a path")
    return path


def _with_url(data: dict[str, Any], url: str | None) -> dict[str, Any]:
    if not url:
        return data
    if not urlsplit(url).path.strip("/") and isinstance(data.get("url"), str):
        url = urljoin(url, urlsplit(data["url"])._replace(scheme="", netloc="").geturl())
    return data | {"url": url}


def _explain(error: ValidationError, text: str, file: str, url: str | None) -> str:
    lines = key_lines(text)
    problems = _innermost(error.errors(include_url=False))
    first = min(problems, key=lambda problem: line_of(lines, problem["loc"]))
    if url and first["loc"] == ("url",):
        return f"{URL_VARIABLE}: {_problem(first)}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    where = f"site file {file}, line {line_of(lines, first['loc'])}"
    return f"{where}: {_dotted(first['loc'])}: {_problem(first)}{more}"


def _innermost(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what only follows of a problem inside it: a list that is empty without its bad elements."""
    paths = [problem["loc"] for problem in problems]

    def has_inner(path: tuple[str | int, ...]) -> bool:
        return any(len(other) > len(path) and other[: len(path)] == path for other in paths)

    return [problem for problem in problems if not has_inner(problem["loc"])]


def _dotted(path: Iterable[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".") or "the file"


def _problem(problem: ErrorDetails) -> str:
    path = problem["loc"]
    if problem["type"] == "extra_forbidden":
        return f"unknown key; expected one of: {', '.join(_keys(_section(path[:-1])))}"
    expected = _description(path)
    hint = f"; expected: {expected}" if expected else ""
    if problem["type"] == "missing":
        return f"is missing{hint}"
    return _message(problem) + hint


def _message(problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ").removesuffix(" after validation, not 0")
    for formal, plain in _PLAIN_WORDS.items():
        message = message.replace(formal, plain)
    return message


def _section(path: Iterable[str | int]) -> type[BaseModel]:
    section: type[BaseModel] = Site
    for part in path:
        if isinstance(part, str):
            section = _inner(section, part)
    return section


def _inner(section: type[BaseModel], key: str) -> type[BaseModel]:
    for name, field in section.model_fields.items():
        if key == (field.alias or name):
            return next(iter(_sections_in(field.annotation)), section)
    return section


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections_in(argument)]


def _keys(section: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]


def _description(path: tuple[str | int, ...]) -> str | None:
    names = [part for part in path if isinstance(part, str)]
    if not names:
        return None
    fields = _section(names[:-1]).model_fields.items()
    return next((field.description for name, field in fields if names[-1] == (field.alias or name)), None)
