"""What a storage_state must be, field by field, so that browsers load all of it.

The rules on cookies are those of Playwright 1.62 (`SetNetworkCookie`) and of Chromium 156, which refuses the whole
profile for one cookie that breaks them; they follow RFC 6265bis (prefixes, 4,096 bytes, attributes). What
browsers refuse was tried on Chromium 156 and Firefox ESR 153.

`pydantic` checks types; `Matches` and `Rule` beside a type say what else must hold, and the reason that is given
where it does not; a model's validator does so for an object as a whole. Reasons never hold a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, FailFast, GetCoreSchemaHandler, ValidationError, model_validator
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema
from typing_extensions import TypedDict

from contract.errors import BadProfile

MAX_COOKIE_BYTES: Final = 4096
MAX_PATH_BYTES: Final = 1024
MAX_ORIGIN_CHARACTERS: Final = 5 * 1024 * 1024
"""What Chromium's localStorage holds per origin, names and values together."""
LATEST_EXPIRY: Final = 253402300799
"""The last second of the year 9999, beyond which Playwright takes none."""
NOTHING_STORED: Final = "holds no cookie and no stored value: it was saved before the login"
"""The reason against a profile without a login where the site needs one, which only its site file says."""

_REASON: Final = "reason"
_KINDS: Final = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
_WANTED: Final = {
    "string_type": "a text",
    "bool_type": "true or false",
    "float_type": "a number of seconds",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}
"""What was wanted, in words, by pydantic's name of the error."""


@dataclass(frozen=True)
class Matches:
    """The whole text must match `pattern` (Rust's regex syntax: linear time), else `reason` is given."""

    pattern: str
    reason: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return pydantic's schema; it is matched in pydantic's core, without a call of Python's."""
        matched = core_schema.str_schema(pattern=rf"(?s)\A(?:{self.pattern})\z")
        explained = core_schema.custom_error_schema(matched, _REASON, custom_error_message=self.reason)
        return core_schema.chain_schema([handler(source), explained])


@dataclass(frozen=True)
class Rule:
    """`holds` must be true of the value, else `reason` is given."""

    holds: Callable[[Any], bool]
    reason: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return pydantic's schema: the rule comes after the type's own checks."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Any) -> Any:
        if not self.holds(value):
            raise PydanticCustomError(_REASON, self.reason)
        return value


def is_web_address(text: str) -> bool:
    """Return whether a browser can take the text as an http or https address with a host."""
    try:
        url = urlsplit(text)
        host, _port = url.hostname, url.port
        return url.scheme in ("http", "https") and bool(host) and " " not in url.netloc
    except ValueError:  # half an IPv6 address, or no such port
        return False


class _Object(BaseModel):
    # Unknown fields are passed over: another version of Playwright may write more.
    model_config = ConfigDict(strict=True, extra="ignore")


_NO_SPACE: Final = Matches("[^ ]?|[^ ].*[^ ]", "has a space at the start or end")


class Cookie(_Object):
    """One of `cookies`; its place is a domain with a path, or a url. What is not given is empty."""

    name: Annotated[str, Matches(r"[^\x00-\x1f\x7f;=]*", "holds a control character, ';' or '='"), _NO_SPACE]
    value: Annotated[str, Matches(r"[^\x00-\x1f\x7f;]*", "holds a control character or ';'"), _NO_SPACE]
    domain: Annotated[str, Matches(r"\.?[\w-]+(\.[\w-]+)*\.?|\[[0-9a-fA-F:.]+\]", "is not a host name")] = ""
    path: Annotated[
        str,
        Matches("/.*", "does not begin with '/'"),
        Matches(r"[^\x00-\x1f\x7f;]*", "holds a control character or ';'"),
    ] = ""
    url: Annotated[str, Rule(is_web_address, "is not an http or https address")] = ""
    expires: float = -1
    httpOnly: bool = False  # noqa: N815 - Playwright's name
    secure: bool = False
    sameSite: Annotated[str, Matches("Strict|Lax|None", "is not one of Strict, Lax, None")] = "Lax"  # noqa: N815
    partitionKey: Annotated[str, Matches("(https?://.*)?", "is not an http or https site")] = ""  # noqa: N815

    @model_validator(mode="after")
    def _check_fields_together(self) -> Self:  # noqa: C901 - a table of rules
        """Give the first rule that is broken as the reason; one that begins with a dot names the field."""
        # In one call and with local names: calls of Python are what validation costs.
        name, value, domain, path, url, expires = self.name, self.value, self.domain, self.path, self.url, self.expires
        fault = ""
        if not (expires >= 0 or expires == -1):
            fault = ".expires is negative; -1 means until the browser closes"
        elif expires > LATEST_EXPIRY:
            fault = ".expires is after the year 9999; Unix seconds are needed, not milliseconds"
        elif len(path.encode()) > MAX_PATH_BYTES:
            fault = f".path is longer than the {MAX_PATH_BYTES} bytes that browsers keep"
        elif not name and (not value or "=" in value):
            fault = ".name is empty"
        elif len(name.encode()) + len(value.encode()) > MAX_COOKIE_BYTES:
            fault = f"is larger than the {MAX_COOKIE_BYTES} bytes that browsers keep"
        elif url and (domain or path):
            fault = "has a url beside domain or path; Playwright takes one or the other"
        elif not (url or domain):
            fault = "has no domain"
        elif not (url or path):
            fault = "has no path"
        elif name.startswith("__"):
            fault = self._prefix_fault(name.lower())
        if fault:
            raise PydanticCustomError(_REASON, fault)
        return self

    def _prefix_fault(self, name: str) -> str:
        if name.startswith("__secure-") and not self.is_secure:
            return "is named __Secure- but is not secure"
        if name.startswith("__host-") and not (
            self.is_secure and self.path in ("", "/") and not self.domain.startswith(".")
        ):
            return "is named __Host-, which needs secure, the path / and a domain without a dot in front"
        return ""

    @property
    def host(self) -> str:
        """The host that the cookie is sent to; a dot in front makes it stand for all hosts below too."""
        return self.domain or urlsplit(self.url).hostname or ""

    @property
    def is_secure(self) -> bool:
        """Whether it is sent by https only."""
        return self.secure or self.url.startswith("https:")


class Item(TypedDict):
    """One value of `localStorage`. A profile may hold thousands: a dict takes half the time of a model."""

    __pydantic_config__ = _Object.model_config  # type: ignore[misc]  # as pydantic has it

    name: str
    value: str


class Database(_Object):
    """One of `indexedDB`; what is in its stores is the driver's business."""

    name: str
    version: int
    stores: list[dict[str, Any]]


class Origin(_Object):
    """One of `origins`."""

    origin: Annotated[str, Rule(is_web_address, "is not an http or https address")]
    localStorage: Annotated[  # noqa: N815 - Playwright's name
        list[Item],
        FailFast(),
        Rule(
            lambda items: sum(len(item["name"]) + len(item["value"]) for item in items) <= MAX_ORIGIN_CHARACTERS,
            f"is larger than the {MAX_ORIGIN_CHARACTERS} characters browsers keep",
        ),
    ]
    indexedDB: Annotated[list[Database], FailFast()] = []  # noqa: N815 - Playwright's name


class TabStorage(_Object):
    """One of `sessionStorage`: what a tab holds of an origin."""

    origin: Annotated[str, Rule(is_web_address, "is not an http or https address")]
    items: Annotated[
        list[Item],
        FailFast(),
        Rule(
            lambda items: sum(len(item["name"]) + len(item["value"]) for item in items) <= MAX_ORIGIN_CHARACTERS,
            f"is larger than the {MAX_ORIGIN_CHARACTERS} characters browsers keep",
        ),
    ]


_SECRET_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


class StorageState(_Object):
    """The whole of a profile: a storage_state, and beside it what the steps of a login (`login.steps`) fill in.

    `secrets` are ours, and no browser gets them: {"user": "ada", "password": "..."}. So is `sessionStorage`, which
    Playwright leaves out: [{"origin": "https://chat.example.com", "items": [{"name": "token", "value": "..."}]}].
    """

    cookies: Annotated[list[Cookie], FailFast()] = []
    origins: Annotated[list[Origin], FailFast()] = []
    sessionStorage: Annotated[list[TabStorage], FailFast()] = []  # noqa: N815 - named as the browser's
    secrets: Annotated[
        dict[str, str],
        Rule(
            lambda secrets: all(map(_SECRET_NAME.fullmatch, secrets)),
            "has a name that is not of lower-case letters, digits and _",
        ),
        Rule(lambda secrets: all(secrets.values()), "holds an empty text"),
    ] = {}

    @property
    def is_empty(self) -> bool:
        """Whether there is no login in it, nor a way to one."""
        stored = any(origin.localStorage or origin.indexedDB for origin in self.origins)
        stored = stored or any(tab.items for tab in self.sessionStorage)
        return not (self.cookies or stored or self.secrets)


def validate(document: Any) -> StorageState:
    """Return the document as a storage_state. Raises BadProfile with the first thing that is wrong."""
    if not isinstance(document, dict):
        raise BadProfile(f"is {_kind(document)}, not an object with cookies and origins")
    if not document.keys() & {"cookies", "origins", "sessionStorage", "secrets"}:
        raise BadProfile("has neither cookies nor origins: it is not a Playwright storage_state")
    try:
        return StorageState.model_validate(document)
    except ValidationError as error:
        raise BadProfile(_in_words(error.errors(include_url=False)[0])) from None


def _in_words(error: ErrorDetails) -> str:
    steps = error["loc"]
    if error["type"] == "missing":
        return f"{_place(steps[:-1])} has no {steps[-1]}"
    wanted = _WANTED.get(error["type"])
    reason = error["msg"] if wanted is None else f"is {_kind(error['input'])}, not {wanted}"
    return f"{_place(steps)}{reason}" if reason.startswith(".") else f"{_place(steps)} {reason}".lstrip()


def _place(steps: tuple[int | str, ...]) -> str:
    """Return where it is, such as ``cookies[2].name``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")
