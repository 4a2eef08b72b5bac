"""Find and launch the three engines: executables, proxy, environment, sandbox."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Literal

import pytest
from camoufox import DefaultAddons
from camoufox.exceptions import CamoufoxNotInstalled, FpgenModelError
from structlog.testing import capture_logs

from browser.errors import EngineMissing
from browser.process import engine
from browser.process.browser_process import BrowserProcess
from browser.process.engine import Launch, browser_environment, find_executable
from browser.settings import BrowserSettings, EngineName
from demo.site import DemoSite


def program(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("chromium", "google-chrome"), ("chromium", "chromium"), ("firefox", "firefox"), ("firefox", "firefox-esr")],
)
def test_the_usual_names_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: EngineName, name: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    expected = program(tmp_path, name)
    assert find_executable(wanted, BrowserSettings()) == expected


def test_no_browser_names_what_was_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineMissing, match=r"no chromium on PATH .*google-chrome-stable.*BROWSER_EXECUTABLE"):
        find_executable("chromium", BrowserSettings())


def test_a_configured_executable_is_used_and_must_be_one(tmp_path: Path) -> None:
    given = program(tmp_path, "my-chrome")
    assert find_executable("chromium", BrowserSettings(browser_executable=given)) == given
    with pytest.raises(EngineMissing, match=r"^BROWSER_EXECUTABLE: .*nothing is not a program"):
        find_executable("chromium", BrowserSettings(browser_executable=tmp_path / "nothing"))


def test_camoufox_without_its_browser_names_the_two_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("camoufox.pkgman.INSTALL_DIR", tmp_path / "empty")
    with pytest.raises(EngineMissing, match=r"python -m camoufox fetch, or choose another engine: BROWSER_ENGINE="):
        find_executable("camoufox", BrowserSettings())


@pytest.mark.parametrize("missing", [CamoufoxNotInstalled("..."), FpgenModelError("..."), ConnectionError("...")])
async def test_camoufox_without_one_of_its_parts_names_the_two_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: Exception
) -> None:
    """Its API fetches what is missing; where it cannot, the operator hears of it in one line."""

    def fail(**_: Any) -> None:
        raise missing

    monkeypatch.setattr("camoufox.utils.launch_options", fail)
    given = program(tmp_path, "camoufox-bin")
    process = BrowserProcess(
        engine="camoufox", headless=True, run_dir=tmp_path, settings=BrowserSettings(camoufox_executable_path=given)
    )
    with pytest.raises(EngineMissing, match="run python -m camoufox fetch, or choose another engine"):
        await process.start()
    await process.close()


def test_camoufox_at_a_path_given(tmp_path: Path) -> None:
    given = program(tmp_path, "camoufox-bin")
    assert find_executable("camoufox", BrowserSettings(camoufox_executable_path=given)) == given


def plan(**settings: Any) -> Launch:
    given = BrowserSettings(**settings)
    return Launch("chromium", Path("/c"), Path("/w"), headless=True, environment={"A": "b"}, settings=given)


def test_secrets_are_not_in_the_browsers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABFLEET_CONTROL_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "secret")
    environment = browser_environment(plan())
    assert environment["A"] == "b"
    assert environment["PATH"] == os.environ["PATH"]
    assert "secret" not in environment.values()


@pytest.mark.parametrize(
    ("name", "exit_code", "expected"),
    [("firefox", 0, None), ("firefox", 1, "0"), ("camoufox", 1, "0"), ("chromium", 1, None)],
)
def test_firefox_makes_no_user_namespace_where_it_cannot_change_its_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: EngineName, exit_code: int, expected: str | None
) -> None:
    program(tmp_path, "unshare").write_text(f"#!/bin/sh\nexit {exit_code}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    launch = dataclasses.replace(plan(), engine=name)
    assert browser_environment(launch).get("MOZ_ASSUME_USER_NS") == expected
    monkeypatch.setenv("MOZ_ASSUME_USER_NS", "1")
    assert browser_environment(launch)["MOZ_ASSUME_USER_NS"] == "1"


@pytest.mark.parametrize(
    ("wanted", "uid", "sandboxed", "reason"),
    [
        (None, 1000, True, None),
        (None, 0, False, "Chromium has no sandbox for the user root"),
        ("on", 1000, True, None),
        ("on", 0, True, None),
        ("off", 1000, False, "CHROMIUM_SANDBOX=off"),
        ("off", 0, False, "CHROMIUM_SANDBOX=off"),
    ],
)
def test_only_root_runs_without_the_sandbox_by_default(
    monkeypatch: pytest.MonkeyPatch,
    wanted: Literal["on", "off"] | None,
    uid: int,
    sandboxed: bool,
    reason: str | None,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with capture_logs() as lines:
        options = engine.launch_options(plan(chromium_sandbox=wanted))
    assert options["chromium_sandbox"] is sandboxed
    assert [line["reason"] for line in lines if line["event"] == "browser_sandbox_off"] == ([reason] if reason else [])


async def test_a_user_without_a_home_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    process = BrowserProcess(engine="chromium", headless=True, run_dir=tmp_path, settings=BrowserSettings())
    with pytest.raises(EngineMissing, match=r"^HOME is not set, and uid \d+ .*; set HOME to a folder"):
        await process.start()
    await process.close()


async def test_a_real_browser_starts_without_the_sandbox(tmp_path: Path) -> None:
    process = BrowserProcess(
        engine="chromium", headless=True, run_dir=tmp_path, settings=BrowserSettings(chromium_sandbox="off")
    )
    await process.start()
    command = Path(f"/proc/{process.identity.pid}/cmdline").read_text()
    await process.close()
    assert "--no-sandbox" in command.split("\0")


def test_a_missing_sandbox_names_the_remedies() -> None:
    """These are Chromium's words (zygote_host_impl_linux.cc); scripts/container-test has it say them for real."""
    error = engine.launch_error(plan(), Exception("[FATAL:zygote_host_impl_linux.cc] No usable sandbox! If you ..."))
    assert isinstance(error, EngineMissing)
    assert "docker/seccomp.json" in str(error)
    assert "CHROMIUM_SANDBOX=off" in str(error)


async def test_the_sandbox_can_be_required(tmp_path: Path) -> None:
    """Root, who has none, is told so; everybody else gets it."""
    process = BrowserProcess(
        engine="chromium", headless=True, run_dir=tmp_path, settings=BrowserSettings(chromium_sandbox="on")
    )
    if os.geteuid() == 0:
        with pytest.raises(EngineMissing, match="CHROMIUM_SANDBOX=on, but chromium has no sandbox for the user root"):
            await process.start()
    else:
        await process.start()
        assert "--no-sandbox" not in Path(f"/proc/{process.identity.pid}/cmdline").read_text()
    await process.close()


def test_camoufox_fetches_nothing_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what its API is asked for: the options themselves are drawn from a model that has to be fetched."""
    asked: dict[str, Any] = {}
    monkeypatch.setattr("camoufox.utils.launch_options", lambda **options: asked.update(options) or {})
    engine.camoufox_options(plan())
    assert asked["exclude_addons"] == list(DefaultAddons)
    assert asked["executable_path"] == "/c"
    assert asked["firefox_user_prefs"]["ui.caretBlinkTime"] == 0


async def test_chromium_obeys_playwrights_features_and_ours(tmp_path: Path, demo: DemoSite) -> None:
    """It obeys the last of several lists only. Our own keep the cookies safe from the end of a network service."""
    process = BrowserProcess(engine="chromium", headless=True, run_dir=tmp_path, settings=BrowserSettings())
    page = await (await process.start()).new_page()
    await page.goto(demo.url)
    group = process.identity.pid
    commands = {path.parent.name: command_line(path.parent) for path in Path("/proc").glob("[0-9]*/cmdline")}
    members = [command for pid, command in commands.items() if command and in_group(int(pid), group)]
    await process.close()
    own = commands[str(group)]
    (enabled,) = (argument for argument in own if argument.startswith("--enable-features="))
    (disabled,) = (argument for argument in own if argument.startswith("--disable-features="))
    assert {"NetworkServiceInProcess2", "CDPScreenshotNewSurface"} <= set(enabled.partition("=")[2].split(","))
    assert {
        "WebUIOmniboxPopup",
        "WebUIOmniboxAimPopup",
        "WebUIOmniboxFullPopup",
        "HttpsUpgrades",
        "DestroyProfileOnBrowserClose",
    } <= set(disabled.partition("=")[2].split(","))
    assert any("--type=renderer" in part for command in members for part in command)
    assert not any("network.mojom.NetworkService" in part for command in members for part in command)


def command_line(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def in_group(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False
