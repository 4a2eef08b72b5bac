"""A login's own surroundings: its way out to the network, and what its browser says of itself.

The coordinator writes them to the child's run folder before it starts the child: a command line and an environment can
be read by others on the machine, and a proxy's password must not be. A child without the file has the settings that
all children share.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.errors import TabfleetError
from contract.files import write_private

SURROUNDINGS: Final = "surroundings.json"


class SurroundingsError(TabfleetError):
    """The run folder's surroundings cannot be read: a child without its proxy must not open a page."""


class Viewport(BaseModel):
    """The size of a page in CSS pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Annotated[int, Field(ge=200, le=8192)]
    height: Annotated[int, Field(ge=200, le=8192)]


class Surroundings(BaseModel):
    """What one login has of its own; None is what all have.

    `proxy` is a URL that may hold user name and password: all that this login's browser sends goes through it, or not
    at all. `locale` is a BCP 47 tag such as `de-DE`, `timezone` a name of the IANA database.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    proxy: Annotated[str | None, Field(repr=False)] = None
    locale: str | None = None
    timezone: str | None = None
    viewport: Viewport | None = None
    user_agent: str | None = None


def write_surroundings(folder: Path, surroundings: Surroundings) -> None:
    """Write them for the child's next start; nothing but defaults is no file. Raises OSError."""
    path = folder / SURROUNDINGS
    if surroundings == Surroundings():
        path.unlink(missing_ok=True)
    else:
        write_private(path, json.dumps(surroundings.model_dump(exclude_none=True)).encode())


def read_surroundings(folder: Path) -> Surroundings:
    """Return what was written for this start. Raises SurroundingsError, without anything of the content."""
    try:
        return Surroundings.model_validate_json((folder / SURROUNDINGS).read_bytes())
    except FileNotFoundError:
        return Surroundings()
    except OSError as error:
        raise SurroundingsError(f"{SURROUNDINGS} of the run folder cannot be read: {error.strerror}") from None
    except ValidationError as error:
        field = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"])) or "content"
        raise SurroundingsError(f"{SURROUNDINGS} of the run folder is damaged at {field}") from None
