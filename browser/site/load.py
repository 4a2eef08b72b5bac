"""Reading site files: the TOML that says what a chat page looks like."""

from __future__ import annotations

import os
from pathlib import Path as FilePath
from urllib.parse import urljoin, urlsplit

from browser.errors import SiteError
from browser.site.rules import problems
from browser.site.schema import Action, Site
from contract.toml_document import Mistake, TomlError, TomlForm, value_at

__all__ = ["SITES_DIR", "Site", "find_site", "load_site", "parse_site"]

SITES_DIR = FilePath(__file__).resolve().parents[2] / "sites"
URL_VARIABLE = "SITE_URL"
_FORM = TomlForm(Site, unnamed=Action)


def load_site(name_or_path: str, *, shown: str | None = None, url: str | None = None) -> Site:
    """Load `sites/NAME.toml`, or the file at a path. `url`, or the variable SITE_URL, when set, replaces its url.

    `shown` is what messages call the file, where that is not its path.

    Where that url has no path of its own, the path of the file's url stays. Raises SiteError, whose
    message names the file, the line, the key and what is expected.
    """
    path = find_site(name_or_path)
    return parse_site(read_site_file(path), shown or str(path), url=url or os.environ.get(URL_VARIABLE) or None)


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
    try:
        data = _FORM.read(text)
        if url:
            if not urlsplit(url).path.strip("/") and isinstance(data.get("url"), str):
                url = urljoin(url, urlsplit(data["url"])._replace(scheme="", netloc="").geturl())
            data["url"] = url
        site = _FORM.parse(data, text)
        if mistakes := [
            Mistake(problem.path, "rule", problem.message, value_at(data, problem.path)) for problem in problems(site)
        ]:
            raise _FORM.error(mistakes, text)
    except TomlError as error:
        if url and error.key == "url":
            raise SiteError(f"{URL_VARIABLE}: {error.problem}") from None
        raise SiteError(error.told(f"site file {file}")) from None
    return site.read_from(FilePath(file).name, text)
