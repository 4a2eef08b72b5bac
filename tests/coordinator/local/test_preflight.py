"""What is found missing before anything is started, and what the settings mean to children."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from coordinator.errors import BrowserMissing, PortConflict, SettingsError, SiteMissing
from coordinator.flags import load_settings, table
from coordinator.local import preflight
from coordinator.local.launcher import child_arguments, settings_environment
from coordinator.main import LAST_EVENTS_S, proxy_config
from coordinator.proxy.server import bind
from coordinator.settings import Settings
from coordinator.supervision.policy import Policy


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for option in table():
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def settings(*flags: str) -> Settings:
    return load_settings(["--site", "demo", *flags])


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ("chromium", "chromium"),
        ("chromium", "chromium-browser"),
        ("chromium", "google-chrome"),
        ("chromium", "google-chrome-stable"),
        ("firefox", "firefox-esr"),
        ("firefox", "firefox"),
    ],
)
def test_browsers_are_found_by_their_usual_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, engine: str, name: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrowserMissing, match=name):
        preflight.check(settings("--engine", engine))
    program(tmp_path / name)
    preflight.check(settings("--engine", engine))


@pytest.mark.parametrize(
    "build", ["camoufox/camoufox-bin", "camoufox/browsers/official/150.0.2-beta.25-8020db3b/camoufox-bin"]
)
def test_camoufox_builds_are_found_in_the_packages_cache(tmp_path: Path, build: str) -> None:
    assert importlib.util.find_spec("camoufox") is not None
    with pytest.raises(BrowserMissing, match=r"python -m camoufox fetch.*BROWSER_ENGINE=chromium or firefox"):
        preflight.check(settings("--engine", "camoufox"))
    program(tmp_path / "cache" / build)
    preflight.check(settings("--engine", "camoufox"))


def test_the_path_of_a_camoufox_build_can_be_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAMOUFOX_EXECUTABLE_PATH", str(tmp_path / "fox"))
    with pytest.raises(BrowserMissing, match="CAMOUFOX_EXECUTABLE_PATH"):
        preflight.check(settings("--engine", "camoufox"))
    program(tmp_path / "fox")
    preflight.check(settings("--engine", "camoufox"))


def test_the_camoufox_package_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BrowserMissing, match="package is not installed"):
        preflight.check(settings("--engine", "camoufox"))


def test_a_site_is_a_name_or_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("url = 'http://127.0.0.1'\n")
    for right in ("demo", "mine.toml", str(tmp_path / "mine.toml")):
        preflight.check_site(load_settings(["--site", right]).chat_site)
    for wrong in ("mine", "./demo", "../sites/none.toml"):
        with pytest.raises(SiteMissing, match=r"there is no such site file; known are .*demo"):
            preflight.check_site(load_settings(["--site", wrong]).chat_site)
    (tmp_path / "windows.toml").write_bytes(b"\xef\xbb\xbfurl = 'http://127.0.0.1'\r\n")
    preflight.check_site(str(tmp_path / "windows.toml"))
    (tmp_path / "latin.toml").write_bytes(b"url = '\xe9'\n")
    (tmp_path / "utf-16.toml").write_bytes("url = 'http://127.0.0.1'\n".encode("utf-16"))
    for name in ("latin.toml", "utf-16.toml"):
        with pytest.raises(SiteMissing, match="the file is not UTF-8 text"):
            preflight.check_site(str(tmp_path / name))
    (tmp_path / "broken.toml").write_text("url =\n")
    with pytest.raises(SiteMissing, match="not valid TOML"):
        preflight.check_site(str(tmp_path / "broken.toml"))
    with pytest.raises(SiteMissing, match="cannot be read: Is a directory"):
        preflight.check_site(f"{tmp_path}/")


@pytest.mark.parametrize(("mode", "says"), [(None, "there is no such file"), (0o600, "may not be executed")])
def test_a_given_browser_must_be_an_executable_file(tmp_path: Path, mode: int | None, says: str) -> None:
    if mode is not None:
        program(tmp_path / "browser").chmod(mode)
    for engine in ("chromium", "firefox"):
        with pytest.raises(BrowserMissing, match=f"BROWSER_EXECUTABLE.*{says}"):
            preflight.check(settings("--engine", engine, "--browser-executable", str(tmp_path / "browser")))


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_rejected(host: str) -> None:
    with pytest.raises(PortConflict, match=f"COORDINATOR_HOST={host}"):
        bind(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_port_in_use_is_rejected(host: str) -> None:
    with bind(host, 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortConflict, match=f"Port {port} for the coordinator is in use"):
            bind(host, port)


def test_the_log_folder_is_created(tmp_path: Path) -> None:
    browser = ("--engine", "chromium", "--browser-executable", str(program(tmp_path / "chromium")))
    preflight.check(settings(*browser, "--log-dir", str(tmp_path / "new/logs")))
    assert (tmp_path / "new/logs").is_dir()
    with pytest.raises(SettingsError, match="--log-dir"):
        preflight.check(settings(*browser, "--log-dir", str(tmp_path / "chromium")))


def test_a_user_without_a_home_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    for engine in ("chromium", "camoufox"):
        with pytest.raises(SettingsError, match=r"^HOME is not set, and uid \d+ .*; set HOME to a folder"):
            preflight.check(settings("--engine", engine))


def test_an_extra_ca_needs_certutil(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("EXTRA_CA_FILE", str(program(tmp_path / "chromium")))
    with pytest.raises(BrowserMissing, match=r"EXTRA_CA_FILE.*certutil.*libnss3-tools"):
        preflight.check(settings("--engine", "chromium"))
    program(tmp_path / "certutil")
    preflight.check(settings("--engine", "chromium"))


def test_children_are_passed_their_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:3128")
    monkeypatch.setenv("SITE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never handed on")
    monkeypatch.setenv("CHROMIUM_SANDBOX", "OFF")
    monkeypatch.setenv("EXTRA_CA_FILE", str(program(tmp_path / "ca.pem")))
    given = settings("--no-headless", "--engine", "camoufox", "--first-token-timeout-s", "7", "--log-format", "json")
    environment = settings_environment(given)
    assert environment == {
        "SITE_URL": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://user:secret@proxy:3128",
        "FIRST_TOKEN_TIMEOUT_S": "7.0",
        "STREAM_IDLE_TIMEOUT_S": "60.0",
        "LOGIN_CHECK_S": "60.0",
        "SLEEP_AFTER_S": "0.0",
        "SLEEP_CHECK_S": "900.0",
        "MAX_BODY_BYTES": "10485760",
        "LOG_LEVEL": "info",
        "CHROMIUM_SANDBOX": "off",
        "EXTRA_CA_FILE": str(tmp_path / "ca.pem"),
        "LOG_FORMAT": "json",
        "ESTIMATE_USAGE": "True",
    }
    arguments = child_arguments(given)
    assert arguments == ("--no-headless", "--engine", "camoufox")
    assert not [word for word in arguments if "secret" in word]
    assert load_settings(["--site", "my/site.toml"]).chat_site == str(tmp_path / "my/site.toml")


def test_limits_reach_policy_and_proxy() -> None:
    given = settings("--child-memory-limit-mb", "900", "--max-children", "3", "--queue-timeout-s", "4")
    policy, proxy = Policy.from_settings(given), proxy_config(given)
    assert (policy.max_children, policy.memory_limit_bytes) == (3, 900_000_000)
    assert proxy.limits.queue_s == 4
    assert proxy.owner == "demo"
    # The child applies the same limits first; ours only catch what it does not.
    assert proxy.limits.head_s > given.first_token_timeout_s
    assert proxy.limits.silence_s > given.stream_idle_timeout_s


def test_supervision_has_the_defaults_of_the_settings() -> None:
    assert Policy.from_settings(settings()) == Policy()


def test_the_longest_orderly_stop_fits_the_stop_grace() -> None:
    """45 s is what image, compose file and manifests grant; see coordinator.main for the parts."""
    from contract.http_server import GRACE_S

    policy = Policy.from_settings(settings())
    children_s = policy.term_grace_s + policy.reap_timeout_s
    assert policy.drain_timeout_s + LAST_EVENTS_S + max(children_s, GRACE_S + 1) <= 44
