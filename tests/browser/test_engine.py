from __future__ import annotations

import os
from pathlib import Path

import pytest

from browser import engine
from browser.engine import EngineName, Launch, browser_environment, find_executable, proxy_settings
from browser.errors import EngineMissing
from browser.settings import BrowserSettings


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


def test_the_executable_given_is_used_and_must_be_one(tmp_path: Path) -> None:
    given = program(tmp_path, "my-chrome")
    assert find_executable("chromium", BrowserSettings(browser_executable=given)) == given
    with pytest.raises(EngineMissing, match=r"^BROWSER_EXECUTABLE: .*nothing is not a program"):
        find_executable("chromium", BrowserSettings(browser_executable=tmp_path / "nothing"))


def test_camoufox_without_its_browser_names_the_two_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("camoufox.pkgman.INSTALL_DIR", tmp_path / "empty")
    with pytest.raises(EngineMissing, match=r"python -m camoufox fetch, or choose another engine: BROWSER_ENGINE="):
        find_executable("camoufox", BrowserSettings())


def test_camoufox_at_a_path_given(tmp_path: Path) -> None:
    given = program(tmp_path, "camoufox-bin")
    assert find_executable("camoufox", BrowserSettings(camoufox_executable=given)) == given


@pytest.mark.parametrize(
    ("https_proxy", "no_proxy", "server", "bypass"),
    [
        ("http://proxy:3128", None, "http://proxy:3128", "localhost,127.0.0.1,[::1]"),
        ("proxy:3128", "a.example, .b.example", "http://proxy:3128", "localhost,127.0.0.1,[::1],a.example,.b.example"),
    ],
)
def test_the_proxy_never_gets_loopback(https_proxy: str, no_proxy: str | None, server: str, bypass: str) -> None:
    settings = BrowserSettings(https_proxy=https_proxy, no_proxy=no_proxy)
    assert proxy_settings(settings) == {"server": server, "bypass": bypass}


def test_the_proxys_password_is_not_in_its_address() -> None:
    proxy = proxy_settings(BrowserSettings(https_proxy="http://me:p%40ss@proxy:1"))
    assert proxy == {
        "server": "http://proxy:1",
        "bypass": "localhost,127.0.0.1,[::1]",
        "username": "me",
        "password": "p@ss",
    }


def test_no_proxy_no_settings() -> None:
    assert proxy_settings(BrowserSettings()) is None


def plan(tmp_path: Path) -> Launch:
    return Launch("chromium", Path("/c"), Path("/w"), headless=True, environment={"A": "b"}, settings=BrowserSettings())


def test_the_browser_does_not_get_our_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TABFLEET_CONTROL_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment = browser_environment(plan(tmp_path))
    assert environment["A"] == "b"
    assert environment["PATH"] == os.environ["PATH"]
    assert "secret" not in environment.values()


@pytest.mark.parametrize(("uid", "sandboxed"), [(0, False), (1000, True)])
def test_only_root_goes_without_the_sandbox(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uid: int, sandboxed: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert engine._options(plan(tmp_path))["chromium_sandbox"] is sandboxed
