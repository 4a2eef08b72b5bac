"""What a child is told through the environment, by the coordinator or by the operator who starts it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from browser.settings import BrowserSettings, OptionalText
from contract.child_environment import MAX_BODY_BYTES


class ChildSettings(BrowserSettings):
    """Frozen settings of one child; each field is read from the variable of the same name in capitals."""

    tabfleet_run_dir: Path | None = None
    tabfleet_parent_pid: Annotated[int | None, Field(gt=0)] = None
    tabfleet_generation: int | None = None
    tabfleet_site_file: OptionalText = None
    tabfleet_instance_id: OptionalText = None
    tabfleet_control_token: Annotated[OptionalText, Field(repr=False)] = None
    tabfleet_claim_deadline_file: Path | None = None
    max_body_bytes: Annotated[int, Field(gt=0)] = MAX_BODY_BYTES
    estimate_usage: bool = True
    log_format: Literal["console", "json"] | None = None
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
