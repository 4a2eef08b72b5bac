"""What outlives the coordinator: alerts that the receiver does not have yet, and which conditions were told.

One small file, mode 0600, replaced in one step. It holds what the alerts themselves say, and no secret.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.files import write_private
from coordinator.alerts.alert import Alert, AlertKind
from coordinator.alerts.conditions import Key
from coordinator.errors import SettingsError

_Time = Annotated[float, Field(ge=0, lt=2.5e11, allow_inf_nan=False)]  # what `datetime` can express


class _Queued(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: AlertKind
    at: _Time
    data: dict[str, Any]
    id: str


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: AlertKind
    child: str | None = None
    site: str | None = None
    since: _Time


class _Content(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tabfleet_alerts: Literal[1]
    queued: tuple[_Queued, ...]
    told: tuple[_Told, ...]


class StateFile:
    """`ALERT_STATE_FILE`. Belongs to one coordinator at a time."""

    def __init__(self, path: Path) -> None:
        """Read the file, if it is there. Raises SettingsError if it is not ours, or cannot be written."""
        self._path = path
        content = _read(path)
        self.queued = tuple(Alert(one.kind, one.at, one.data, one.id) for one in content.queued)
        self.told = {Key(one.kind, one.child, one.site): one.since for one in content.told}
        try:
            self.write(self.queued, self.told)
        except OSError as error:
            raise SettingsError(f"ALERT_STATE_FILE: the file cannot be written: {error.strerror}") from None

    def write(self, queued: tuple[Alert, ...], told: dict[Key, float]) -> None:
        """Put this in place of the content; `told` gives the time since when, in Unix seconds. Raises OSError."""
        content = _Content(
            tabfleet_alerts=1,
            queued=tuple(_Queued(**asdict(alert)) for alert in queued),
            told=tuple(_Told(**key._asdict(), since=since) for key, since in told.items()),
        )
        write_private(self._path, content.model_dump_json().encode())


def _read(path: Path) -> _Content:
    try:
        return _Content.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Content(tabfleet_alerts=1, queued=(), told=())
    except OSError as error:
        raise SettingsError(f"ALERT_STATE_FILE: the file cannot be read: {error.strerror}") from None
    except ValidationError:
        # Whatever it is, it is not overwritten.
        raise SettingsError(
            "ALERT_STATE_FILE: the file is damaged, or of another program; delete it, or name another"
        ) from None
