"""What a browser is told through the environment, whoever starts it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from browser.settings import BrowserSettings

PositiveS = Annotated[float, Field(gt=0)]
OnOff = Annotated[Literal["on", "off"], BeforeValidator(str.lower)]
OptionalText = Annotated[str | None, BeforeValidator(lambda value: value or None)]
S = TypeVar("S", bound=BaseModel)


class VariableError(ValueError):
    """A variable has a value it cannot take; the message names it."""


class BrowserEnvironment(BaseModel):
    """Each field is read from the variable of the same name in capitals; durations are in seconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    first_token_timeout_s: PositiveS = 120.0
    stream_idle_timeout_s: PositiveS = 60.0
    login_check_s: PositiveS = 60.0
    browser_executable: Path | None = None
    camoufox_executable_path: Path | None = None
    https_proxy: Annotated[OptionalText, Field(repr=False)] = None
    no_proxy: OptionalText = None
    chromium_sandbox: OnOff | None = None
    extra_ca_file: Path | None = None

    def for_browser(self) -> BrowserSettings:
        """The part that the browser and its page go by."""
        return BrowserSettings(
            browser_executable=self.browser_executable,
            camoufox_executable=self.camoufox_executable_path,
            first_token_timeout_s=self.first_token_timeout_s,
            stream_idle_timeout_s=self.stream_idle_timeout_s,
            login_check_s=self.login_check_s,
            https_proxy=self.https_proxy,
            no_proxy=self.no_proxy,
            chromium_sandbox=self.chromium_sandbox,
            extra_ca_file=self.extra_ca_file,
        )


def read_variables(kind: type[S]) -> S:
    """Read the environment; what is empty there is not set. Raises VariableError, one line that names the variable.

    By pydantic alone: to import pydantic-settings costs each child's start 100 ms.
    """
    given = {name.lower(): value for name, value in os.environ.items() if value}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0]).upper()
        value = "" if "TOKEN" in name or "PROXY" in name else f", not {first['input']!r}"
        raise VariableError(f"{name}: {first['msg'].lower()}{value}") from None
