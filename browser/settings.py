"""How a browser is started and how long its page is waited for, as the environment says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from contract import child_environment
from contract.errors import TabfleetError
from contract.proxies import parse_no_proxy, parse_proxy

EngineName = Literal["chromium", "firefox", "camoufox"]
PositiveS = Annotated[float, Field(gt=0)]
OnOff = Annotated[Literal["on", "off"], BeforeValidator(str.lower)]
OptionalText = Annotated[str | None, BeforeValidator(lambda value: value or None)]
S = TypeVar("S", bound=BaseModel)


def _checked(parse: Callable[[str], object]) -> Callable[[str | None], str | None]:
    """Return a validator that keeps a text that can be parsed. The text stays, as it is what is passed on."""

    def check(text: str | None) -> str | None:
        if text is not None:
            parse(text)
        return text

    return check


class VariableError(TabfleetError):
    """An environment variable has a value it cannot take; the message names it."""


class BrowserSettings(BaseModel):
    """Settings of one child's browser, each read from the variable of the same name in capitals.

    `site_url` replaces the address in the site file. Durations are in seconds; `sleep_after_s` 0 is never.
    `chromium_sandbox` None is on, but off for root, who has none.
    `extra_ca_file` holds PEM certificates.
    """

    # A misspelt setting in code is an error; read_variables passes on only the variables that have a field.
    model_config = ConfigDict(frozen=True, extra="forbid")

    site_url: OptionalText = None
    first_token_timeout_s: PositiveS = child_environment.FIRST_TOKEN_TIMEOUT_S
    stream_idle_timeout_s: PositiveS = child_environment.STREAM_IDLE_TIMEOUT_S
    login_check_s: PositiveS = child_environment.LOGIN_CHECK_S
    sleep_after_s: Annotated[float, Field(ge=0)] = 0.0
    sleep_check_s: PositiveS = child_environment.SLEEP_CHECK_S
    browser_executable: Path | None = None
    camoufox_executable_path: Path | None = None
    https_proxy: Annotated[OptionalText, AfterValidator(_checked(parse_proxy)), Field(repr=False)] = None
    no_proxy: Annotated[OptionalText, AfterValidator(_checked(parse_no_proxy))] = None
    chromium_sandbox: OnOff | None = None
    extra_ca_file: Path | None = None


def read_variables(kind: type[S]) -> S:
    """Read a settings model from the environment; an empty variable counts as not set.

    Raises VariableError, one line that names the variable. Uses pydantic alone, because importing pydantic-settings
    costs each child's start 100 ms.
    """
    # A file of variables that was saved on Windows leaves a carriage return at the end of each value.
    given = {name.lower(): value.strip() for name, value in os.environ.items() if value.strip()}
    try:
        return kind.model_validate({name: given[name] for name in kind.model_fields if name in given})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]).upper()
        # A token or a proxy's password must not get into a log.
        value = "" if "TOKEN" in name or "PROXY" in name else f", not {first['input']!r}"
        raise VariableError(f"{name}: {first['msg'].lower()}{value}") from None
