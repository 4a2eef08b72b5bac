"""What a fleet file may say. Every field's description is what an error message shows."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit
from zoneinfo import TZPATH, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from contract.proxies import parse_own_proxy
from contract.toml_document import ONE_LINE

HEAVIEST: Final = 100
"""Choosing a child costs a look at each weight that there is: whole numbers up to here keep them few."""

# RFC 5646, section 2.1, without extlangs, extensions and private use: what both Chromium and Firefox take.
_LOCALE: Final = re.compile(
    r"[a-zA-Z]{2,3}(-[a-zA-Z]{4})?(-([a-zA-Z]{2}|[0-9]{3}))?((-([a-zA-Z0-9]{5,8}|[0-9][a-zA-Z0-9]{3}))*)"
)
_FIXED_ZONE: Final = re.compile(r"UTC|Etc/GMT(\+([1-9]|1[0-2])|-([1-9]|1[0-4]))")
_ZONE_LIKE: Final = re.compile(r"[A-Z][A-Za-z_-]+(/[A-Z][A-Za-z_-]+){1,2}")


class Section(BaseModel):
    # No docstring: a section's own says what it is for.
    # Built at its first use: most coordinators have no fleet file.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


def _locale(text: str) -> str:
    found = _LOCALE.fullmatch(text)
    variants = found[4].lower().split("-")[1:] if found else []
    if not found or len(set(variants)) != len(variants):
        hint = f": write {text.replace('_', '-')}" if _LOCALE.fullmatch(text.replace("_", "-")) else ""
        raise ValueError(f"is no BCP 47 tag{hint}")
    return text


@cache
def _zones() -> frozenset[str]:
    """Return the present names of all zones with a place, none where the system has no time zones."""
    table = next((path for folder in TZPATH if (path := Path(folder, "zone.tab")).is_file()), None)
    lines = table.read_text().splitlines() if table else []
    return frozenset(line.split("\t")[2].strip() for line in lines if line and not line.startswith("#"))


def _timezone(text: str) -> str:
    """Return a time zone's name that every engine takes: Firefox refuses those that are only kept for old programs."""
    if text in _zones() or _FIXED_ZONE.fullmatch(text) or (not _zones() and _ZONE_LIKE.fullmatch(text)):
        return text
    if text in available_timezones():
        raise ValueError("is an old name, which Firefox refuses: write the zone's present name")
    raise ValueError("is no time zone")


def _proxy(text: str) -> str:
    """Return a proxy's address, without a login: more people read this file than may know a password."""
    try:
        parts = urlsplit(text)
        has_login = "@" in parts.netloc or (parts.scheme not in ("http", "https", "socks5") and "@" in text)
    except ValueError:
        has_login = "@" in text
    if has_login:
        raise ValueError(
            "must hold no user name or password: put USER:PASSWORD into a file with mode 0600, and name that in"
            " proxy_credentials_file"
        )
    try:
        parse_own_proxy(text)
        has_port = urlsplit(text).port is not None
    except ValueError:
        raise ValueError("is no address of a proxy") from None
    if not has_port:
        raise ValueError("needs a port")
    return text.rstrip("/")


def _user_agent(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII")
    return text


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := next((name for at, name in enumerate(names) if name in names[:at]), None):
        raise ValueError(f"names {twice!r} twice")
    return names


Line = Annotated[str, Field(pattern=ONE_LINE)]
Names = Annotated[tuple[Line, ...], Field(min_length=1), AfterValidator(_distinct)]
Size = Annotated[int, Field(ge=200, le=8192)]


class ViewportSize(Section):
    """The size of a page."""

    width: Size = Field(description="CSS pixels, 200 to 8192")
    height: Size = Field(description="CSS pixels, 200 to 8192")


class LoginEntry(Section):
    """What the logins of one name or pattern have of their own."""

    name: Line | None = Field(default=None, description="the name of a profile, without .json")
    pattern: Line | None = Field(
        default=None, description="names of profiles with * for any text, ? for any character, [ab] for one of these"
    )
    site: Line | None = Field(
        default=None, description="a name in sites/, or the path of a site file, relative to this file"
    )
    proxy: Annotated[str, AfterValidator(_proxy)] | None = Field(
        default=None, description="http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
    )
    proxy_credentials_file: Line | None = Field(
        default=None, description="the path of a file with one line USER:PASSWORD, which only its owner may write"
    )
    locale: Annotated[str, AfterValidator(_locale)] | None = Field(
        default=None, description="a language tag (BCP 47) such as de-DE or zh-Hant-TW, without extensions"
    )
    timezone: Annotated[str, AfterValidator(_timezone)] | None = Field(
        default=None, description="a name of the IANA database such as Europe/Berlin, or UTC"
    )
    viewport: ViewportSize | None = Field(default=None, description="{ width = PIXELS, height = PIXELS }")
    user_agent: Annotated[Line, Field(max_length=500), AfterValidator(_user_agent)] | None = Field(
        default=None, description="the browser's User-Agent, up to 500 characters of ASCII in one line"
    )
    models: Names | None = Field(default=None, description="a list of the site's models that these logins serve")
    weight: int | None = Field(
        default=None,
        ge=1,
        le=HEAVIEST,
        description=f"the share of requests among logins of the same model, a whole number, 1 to {HEAVIEST}",
    )


class FleetTable(Section):
    """The whole file."""

    login: tuple[LoginEntry, ...] = Field(default=(), description="[[login]] tables, in the order in which they apply")
    alias: dict[Line, Names] = Field(
        default_factory=dict,
        description='a name and the list of models that it stands for, in order: fast = ["demo-small", "gradio"]',
    )
