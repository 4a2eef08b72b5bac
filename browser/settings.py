"""How a browser is started and how long its page is waited for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EngineName = Literal["chromium", "firefox", "camoufox"]


@dataclass(frozen=True)
class BrowserSettings:
    """Settings of one child's browser. Durations are in seconds.

    `chromium_sandbox` None is on, but off for root, who has none. `extra_ca_file` holds PEM certificates.
    """

    browser_executable: Path | None = None
    camoufox_executable: Path | None = None
    first_token_timeout_s: float = 120.0
    stream_idle_timeout_s: float = 60.0
    login_check_s: float = 60.0
    https_proxy: str | None = None
    no_proxy: str | None = None
    chromium_sandbox: Literal["on", "off"] | None = None
    extra_ca_file: Path | None = None
