"""What is checked before anything is started: the site file, the engine's browser, and what else children need."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from contract.files import HomeMissing, home
from coordinator.errors import BrowserMissing, SettingsError, SiteMissing
from coordinator.settings import Settings
from coordinator.site_files import known_sites, models_of

_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "firefox": ("firefox-esr", "firefox"),
}
# Where the package camoufox keeps its builds, below the user's cache folder (its pkgman.py, multiversion.py).
_CAMOUFOX_BUILDS: Final = ("camoufox/camoufox-bin", "camoufox/browsers/*/*/camoufox-bin")


def check(settings: Settings) -> None:
    """Check all that children will need. Raises SiteMissing, BrowserMissing or SettingsError, each in one line."""
    # With a fleet file, each login may have a site of its own; that file is checked when it is read, before any start.
    if settings.chat_site is not None or settings.fleet_file is None:
        check_site(settings.chat_site)
    try:
        home()  # neither driver nor browser starts without one
    except HomeMissing as missing:
        raise SettingsError(f"{missing}.") from None
    if settings.log_dir is not None:
        folder = settings.log_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(f"LOG_DIR={folder} (--log-dir) cannot be made: {error.strerror}.") from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SettingsError(f"LOG_DIR={folder} (--log-dir) cannot be written by uid {os.getuid()}.")
    if settings.browser_engine == "camoufox":
        _check_camoufox(settings.camoufox_executable_path or settings.browser_executable)
    elif settings.browser_executable is not None:
        _check_executable(settings.browser_executable, "BROWSER_EXECUTABLE (--browser-executable)")
    elif not any(shutil.which(program) for program in _PROGRAMS[settings.browser_engine]):
        names = ", ".join(_PROGRAMS[settings.browser_engine])
        raise BrowserMissing(
            f"No browser for the engine {settings.browser_engine}: none of {names} is on PATH;"
            " install one, or name it in BROWSER_EXECUTABLE (--browser-executable)."
        )
    if settings.extra_ca_file is not None and shutil.which("certutil") is None:
        raise BrowserMissing(
            "EXTRA_CA_FILE is set, but certutil, which tells browsers of it, is not on PATH;"
            " install the package libnss3-tools."
        )


def check_site(site: str | None) -> None:
    """Raise SiteMissing unless the site file is there and is TOML; the child checks what is in it.

    `site` is as in the settings: a name in sites/, or an absolute path.
    """
    if site is None:
        known = known_sites()
        raise SiteMissing(f"CHAT_SITE (--site) is not set; it takes one of {known}, or the path of a site file.")
    try:
        models_of(site)
    except SiteMissing as error:
        raise SiteMissing(f"CHAT_SITE={site}: {error}.") from None


def _check_camoufox(executable: Path | None) -> None:
    others = "or choose another engine: BROWSER_ENGINE=chromium or firefox (--engine)"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache")
    if importlib.util.find_spec("camoufox") is None:
        raise BrowserMissing(
            f"No browser for the engine camoufox: its Python package is not installed; install camoufox, {others}."
        )
    if executable is not None:
        _check_executable(executable, "CAMOUFOX_EXECUTABLE_PATH")
    elif not any(path for pattern in _CAMOUFOX_BUILDS for path in cache.glob(pattern)):
        raise BrowserMissing(
            f"No browser for the engine camoufox: its build is not there; run python -m camoufox fetch, {others}."
        )


def _check_executable(path: Path, variable: str) -> None:
    if not path.is_file():
        raise BrowserMissing(f"{variable}={path}: there is no such file.")
    if not os.access(path, os.X_OK):
        raise BrowserMissing(f"{variable}={path}: the file may not be executed by uid {os.getuid()}.")
