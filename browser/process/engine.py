"""The three browsers: where each is found and how it is launched."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from playwright.async_api import Browser, Error, Playwright

from browser.errors import BrowserError, BrowserLost, EngineMissing
from browser.process.proxy import WayOut, chromium_way_out, firefox_preferences, firefox_way_out, proxy_settings
from browser.settings import BrowserSettings, EngineName
from contract import child_environment
from contract.proxies import VARIABLES

log = structlog.get_logger("browser")

LAUNCH_TIMEOUT_S = 60.0
_UNSHARE_TIMEOUT_S = 5.0
NAMES: Mapping[str, tuple[str, ...]] = {
    "chromium": ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "firefox": ("firefox-esr", "firefox"),
}
# Without these a browser asks its maker for updates, lists and probes, which a fleet must not.
_QUIET_CHROMIUM = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Components that are wanted at once are asked for in spite of the above, and each start asks who is signed in. No
    # request goes to port 1: kRestrictedPorts in net/base/port_util.cc of Chromium's source.
    "--component-updater=url-source=https://127.0.0.1:1/",
    "--gaia-url=https://127.0.0.1:1/",
)
# A network service of its own that dies takes the cookies with it, and the page then looks logged out. The others are
# hidden pages of the address bar, a renderer for each window, and more that asks the browser's maker.
# bound-browser merges these lists with Playwright's.
_CHROMIUM_FEATURES = (
    "--enable-features=NetworkServiceInProcess2",
    (
        "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,"
        "NetworkTimeServiceQuerying,AutofillServerCommunication"
    ),
)
_QUIET_FIREFOX: Mapping[str, bool | int | str] = {
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.dns.disablePrefetch": True,
    "network.prefetch-next": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",  # Mozilla's name for no server
    "ui.caretBlinkTime": 0,  # a blinking caret is most of what an idle page costs; in Chromium hook.js sees to it
}
_OTHER_ENGINES = "or choose another engine: BROWSER_ENGINE=chromium or firefox"
# What the browser must not know: a page that breaks out of its sandbox would find it in the environment.
_SECRET_VARIABLES = (child_environment.CONTROL_TOKEN, child_environment.KEY_FILE_PATH)


@dataclass(frozen=True)
class Launch:
    """What to launch: the program to start (a wrapper around `executable`), and how."""

    engine: EngineName
    executable: Path
    program: Path
    headless: bool
    environment: Mapping[str, str]
    settings: BrowserSettings
    way_out: WayOut | None = None


def find_executable(engine: EngineName, settings: BrowserSettings) -> Path:
    """Return the engine's browser. Raises EngineMissing, which names the ways out."""
    if engine == "camoufox":
        return find_camoufox(settings)
    if settings.browser_executable is not None:
        return _usable(settings.browser_executable, "BROWSER_EXECUTABLE")
    found = next(filter(None, map(shutil.which, NAMES[engine])), None)
    if found is None:
        raise EngineMissing(
            f"no {engine} on PATH (looked for {', '.join(NAMES[engine])}); "
            "install one, or give its path in BROWSER_EXECUTABLE"
        )
    return Path(found)


def _usable(path: Path, variable: str) -> Path:
    if not (path.is_file() and os.access(path, os.X_OK)):
        raise EngineMissing(f"{variable}: {path} is not a program that can be run")
    return path


def find_camoufox(settings: BrowserSettings) -> Path:
    """Return Camoufox's browser: the one that is configured, else the one its package has fetched.

    Raises EngineMissing, which names the ways out.
    """
    configured = settings.camoufox_executable_path or settings.browser_executable
    if configured is not None:
        return _usable(configured, "CAMOUFOX_EXECUTABLE_PATH")
    try:
        from camoufox.exceptions import CamoufoxNotInstalled  # noqa: PLC0415 - an optional dependency
        from camoufox.pkgman import camoufox_path, launch_path  # noqa: PLC0415
    except ImportError:
        raise EngineMissing(
            f"engine camoufox: its Python package is not installed; pip install camoufox, {_OTHER_ENGINES}"
        ) from None
    try:
        return Path(launch_path(camoufox_path(download_if_missing=False)))
    except (CamoufoxNotInstalled, FileNotFoundError):
        raise EngineMissing(
            f"engine camoufox: its browser is not installed; run python -m camoufox fetch, {_OTHER_ENGINES}"
        ) from None


async def launch(playwright: Playwright, plan: Launch) -> Browser:
    """Start the browser. Raises EngineMissing where something that it needs is missing, else BrowserLost."""
    try:
        if plan.engine != "camoufox":
            return await playwright[plan.engine].launch(**launch_options(plan))
        from camoufox.async_api import AsyncNewBrowser  # noqa: PLC0415 - an optional dependency
        from camoufox.exceptions import FpgenModelError  # noqa: PLC0415

        try:
            options = await asyncio.to_thread(camoufox_options, plan)
        except (FpgenModelError, OSError) as error:
            log.debug("camoufox_incomplete", error=type(error).__name__)
            raise EngineMissing(
                f"engine camoufox: part of it is missing; run python -m camoufox fetch, {_OTHER_ENGINES}"
            ) from None
        return await AsyncNewBrowser(playwright, from_options=options)
    except Error as error:
        raise launch_error(plan, error) from None


def launch_error(plan: Launch, error: Exception) -> BrowserError:
    """Map a failed launch to a BrowserError, by the words of the browser that Playwright passes on."""
    text = str(error)
    if "No usable sandbox" in text:
        return EngineMissing(
            "chromium cannot use its sandbox here; allow unprivileged user namespaces "
            "(in a container: docker/seccomp.json as its seccomp profile), or run without it: CHROMIUM_SANDBOX=off"
        )
    if "Running as root without --no-sandbox" in text:
        return EngineMissing(
            "CHROMIUM_SANDBOX=on, but chromium has no sandbox for the user root; start as another user, or leave it out"
        )
    if "missing X server" in text or "no DISPLAY" in text or "without having a XServer" in text:
        return EngineMissing("there is no display to show a browser on; set DISPLAY, or start it headless")
    return BrowserLost(f"{plan.engine} ({plan.executable}) did not start; run it by hand to see why")


def launch_options(plan: Launch) -> dict[str, Any]:
    """Return the arguments of Playwright's `launch`.

    Signals are left to the child: it ends the browser when it has ended the answers.
    """
    options: dict[str, Any] = {
        "executable_path": plan.program,
        "headless": plan.headless,
        "env": browser_environment(plan),
        "handle_sigint": False,
        "handle_sigterm": False,
        "handle_sighup": False,
        "timeout": LAUNCH_TIMEOUT_S * 1000,
    }
    if plan.way_out is None and (proxy := proxy_settings(plan.engine, plan.settings)):
        options["proxy"] = proxy
    if plan.engine == "chromium":
        reason = None
        if plan.settings.chromium_sandbox == "off":
            reason = "CHROMIUM_SANDBOX=off"
        elif plan.settings.chromium_sandbox is None and os.geteuid() == 0:
            reason = "Chromium has no sandbox for the user root"
        if reason:
            log.warning("browser_sandbox_off", reason=reason)
        arguments = [
            *_QUIET_CHROMIUM,
            *_CHROMIUM_FEATURES,
            *(chromium_way_out(plan.way_out) if plan.way_out else ()),
        ]
        return options | {"args": arguments, "chromium_sandbox": reason is None}
    if plan.engine == "firefox":
        way_out = firefox_way_out(plan.way_out) if plan.way_out else firefox_preferences(plan.settings)
        return options | {"channel": "moz-firefox", "firefox_user_prefs": {**_QUIET_FIREFOX, **way_out}}
    return options


def browser_environment(plan: Launch) -> dict[str, str]:
    """Return the browser's environment: this process's without its secrets, and what the launch adds.

    A proxy's address may hold a password; the browser has its proxy by other means.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _SECRET_VARIABLES and not name.startswith("AWS_") and name.lower() not in VARIABLES
    }
    # In containers of podman and CRI-O without CAP_SYS_CHROOT a process may make a user namespace, but not change its
    # root in it. Firefox takes the first for the second, and its processes crash; told to assume no namespaces it keeps
    # its filters of system calls. The variable: Firefox's security/sandbox/linux/SandboxInfo.cpp.
    if plan.engine != "chromium":
        # Else a released Firefox ignores services.settings.server: services/settings/Utils.sys.mjs in its source.
        environment = {"MOZ_REMOTE_SETTINGS_DEVTOOLS": "1", **environment}
        command = ["unshare", "--user", "--map-root-user", "--root=/", "true"]
        try:
            subprocess.run(command, capture_output=True, timeout=_UNSHARE_TIMEOUT_S, check=True)  # noqa: S603 - constant
        except (OSError, subprocess.SubprocessError):
            log.info("browser_sandbox_reduced", reason="no root can be changed in a user namespace here")
            environment = {"MOZ_ASSUME_USER_NS": "0", **environment}
    return environment | dict(plan.environment)


def camoufox_options(plan: Launch) -> dict[str, Any]:
    """Return the launch arguments that Camoufox's API makes, with ours over them. May fetch what is missing."""
    from camoufox import DefaultAddons  # noqa: PLC0415 - an optional dependency
    from camoufox.utils import launch_options as camoufox_launch_options  # noqa: PLC0415

    options = launch_options(plan)
    own = camoufox_launch_options(
        executable_path=str(plan.executable.resolve()),  # beside it stands its version
        headless=plan.headless,
        main_world_eval=True,
        # Otherwise the newest uBlock Origin is fetched at each start: an unknown version, which changes pages.
        exclude_addons=[DefaultAddons.UBO],
        firefox_user_prefs={
            "ui.caretBlinkTime": _QUIET_FIREFOX["ui.caretBlinkTime"],
            **({**_QUIET_FIREFOX, **firefox_way_out(plan.way_out)} if plan.way_out else {}),
        },
        i_know_what_im_doing=True,
        env={**options["env"]},
    )
    return {**own, **options, "env": {**own.get("env", {}), **options["env"]}}
