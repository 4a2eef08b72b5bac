"""Names and defaults of what a child is told through its environment, by the coordinator or by an operator."""

from __future__ import annotations

from typing import Final

KEY_FILE_PATH: Final = "KEY_FILE_PATH"
RUN_DIR: Final = "TABFLEET_RUN_DIR"
PARENT_PID: Final = "TABFLEET_PARENT_PID"
GENERATION: Final = "TABFLEET_GENERATION"
SITE_FILE: Final = "TABFLEET_SITE_FILE"
"""The path that messages give of the site file: a child of a coordinator is given a copy of it."""
INSTANCE_ID: Final = "TABFLEET_INSTANCE_ID"
CONTROL_TOKEN: Final = "TABFLEET_CONTROL_TOKEN"  # noqa: S105 - the variable's name
CLAIM_DEADLINE_FILE: Final = "TABFLEET_CLAIM_DEADLINE_FILE"
"""The file of `contract.claim_deadline`; unset: nobody else can claim the login, and there is no fence."""

FIRST_TOKEN_TIMEOUT_S: Final = 120.0
STREAM_IDLE_TIMEOUT_S: Final = 60.0
LOGIN_CHECK_S: Final = 60.0
SLEEP_CHECK_S: Final = 900.0
MAX_BODY_BYTES: Final = 10 * 1024 * 1024
KEEP_ALIVE_S: Final = 10.0
"""A child whose prompt is submitted sends something this often at least: a comment, or a line break before JSON."""
