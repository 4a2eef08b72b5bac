"""Flags over environment over defaults; errors that name what is wrong; the table in the docs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.errors import SettingsError
from coordinator.flags import load_settings, settings_markdown, table
from coordinator.settings import Settings
from coordinator.shard import Shard

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {option.variable for option in table()} | {"AWS_REGION"}:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def error_of(*argv: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(argv)
    return str(caught.value)


def test_documented_defaults() -> None:
    settings = load_settings()
    assert settings.profile_backend == "local"
    assert settings.local_profile_dir == Path("auth_profiles/active").absolute()
    assert (settings.coordinator_host, settings.coordinator_port) == ("127.0.0.1", 2048)
    assert (settings.base_api_port, settings.base_stream_port, settings.port_step) == (3100, 3200, 1)
    assert settings.browser_engine == "camoufox"
    assert settings.headless
    assert settings.max_body_bytes == 10_485_760
    assert settings.log_format is None


def test_a_flag_wins_over_the_environment_and_that_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().max_queue == 100
    monkeypatch.setenv("MAX_QUEUE", "7")
    assert load_settings().max_queue == 7
    assert load_settings(["--max-queue", "8"]).max_queue == 8
    monkeypatch.setenv("MAX_QUEUE", "nonsense")
    assert load_settings(["--max-queue=9"]).max_queue == 9


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in table():
        monkeypatch.setenv(option.variable, "")
    assert load_settings() == Settings()


def test_variables_of_a_file_saved_on_windows_have_no_carriage_return(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "PORT_STEP": "3",
        "HEADLESS": "false",
        "BROWSER_ENGINE": "firefox",
        "CHAT_SITE": "demo",
    }.items():
        monkeypatch.setenv(name, f"{value}\r")
    monkeypatch.setenv("LOCAL_PROFILE_DIR", f"{tmp_path}\r")
    monkeypatch.setenv("LOG_FORMAT", "\r")
    settings = load_settings()
    assert (settings.port_step, settings.headless, settings.browser_engine) == (3, False, "firefox")
    assert (settings.chat_site, settings.local_profile_dir, settings.log_format) == ("demo", tmp_path, None)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("no", False), ("off", False)])
def test_booleans_take_the_usual_words(monkeypatch: pytest.MonkeyPatch, text: str, value: bool) -> None:
    monkeypatch.setenv("METRICS_PUBLIC", text)
    assert load_settings().metrics_public is value


def test_a_no_flag_overrides_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUIRE_API_KEY", "true")
    assert not load_settings(["--no-require-api-key"]).require_api_key
    assert not load_settings(["--no-headless"]).headless


@pytest.mark.parametrize("prefix", ["p", "/p", "p/", "/p/"])
def test_slashes_around_the_prefix_do_not_matter(prefix: str) -> None:
    assert load_settings(["--auth-profile-s3-prefix", prefix]).auth_profile_s3_prefix == "p"


def test_the_buckets_region_wins_over_aws_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert load_settings().auth_profile_s3_region == "eu-west-1"
    monkeypatch.setenv("AUTH_PROFILE_S3_REGION", "eu-north-1")
    assert load_settings().auth_profile_s3_region == "eu-north-1"
    assert load_settings(["--auth-profile-s3-region", "us-east-2"]).auth_profile_s3_region == "us-east-2"


def test_paths_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(["--profiles", "here"]).local_profile_dir == tmp_path / "here"


def test_names_are_case_insensitive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    assert load_settings(["--engine", "Chromium"]).browser_engine == "chromium"


WRONG = {
    "PROFILE_BACKEND": "gcs",
    "REQUIRE_API_KEY": "perhaps",
    "AUTH_PROFILE_S3_CONNECT_TIMEOUT_S": "0",
    "AUTH_PROFILE_REFRESH_S": "-1",
    "COORDINATOR_PORT": "70000",
    "BASE_API_PORT": "0",
    "PORT_STEP": "0",
    "MAX_CHILDREN": "-1",
    "BROWSER_ENGINE": "netscape",
    "HEADLESS": "maybe",
    "MAX_QUEUE": "ten",
    "QUEUE_TIMEOUT_S": "nan",
    "FIRST_TOKEN_TIMEOUT_S": "inf",
    "MAX_BODY_BYTES": "10 MB",
    "UNHEALTHY_AFTER": "1.5",
    "CHROMIUM_SANDBOX": "perhaps",
    "SHARD": "3/3",
    "CELL": "two words",
    "EXTRA_CA_FILE": "/nowhere/ca.pem",
    "HTTPS_PROXY": "ftp://proxy",
    "ALERT_URL": "hooks.example/in",
    "ALERT_SECRET_FILE": "/nowhere/secret",
    "NO_PROXY": "10.0.0.0/99",
    "LOG_FORMAT": "xml",
    "LOG_LEVEL": "loud",
}


@pytest.mark.parametrize("variable", WRONG)
def test_an_error_names_variable_value_and_what_is_accepted(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, WRONG[variable])
    option = next(option for option in table() if option.variable == variable)
    line = error_of()
    assert "\n" not in line
    assert line.startswith(variable)
    assert option.takes.words in line
    if not option.secret:
        assert repr(WRONG[variable]) in line
    if option.flag:
        assert option.flag in line


def test_an_error_of_a_flag_names_the_flag_first() -> None:
    assert error_of("--port-step", "x").startswith("--port-step (PORT_STEP): got 'x'")


def test_each_wrong_setting_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT_STEP", "0")
    lines = error_of("--max-queue", "-3").splitlines()
    assert sorted(line.split()[0] for line in lines) == ["--max-queue", "PORT_STEP"]


def test_a_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "user:hunter2@proxy:3128")
    assert "hunter2" not in error_of()
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@proxy:3128")
    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize("proxy", ["http://user:p#ss@proxy:3128", "http://proxy:port", "http://fd00::1:3128"])
def test_a_proxy_that_is_none_is_refused_with_the_variables_name(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert error_of().startswith("HTTPS_PROXY: got a value that is not shown, takes http://HOST:PORT")


@pytest.mark.parametrize("proxy", ["http://user:hunter2@proxy:3128", "https://proxy:3128"])
def test_a_proxy_that_firefox_cannot_use_is_refused(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    assert load_settings(["--engine", "chromium"]).https_proxy == proxy
    line = error_of("--engine", "firefox")
    assert line.startswith("HTTPS_PROXY: Firefox")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://hooks.example/hunter2",
            "//hooks.example/hunter2",
            "https:///hunter2",
            "https://hooks.example:0/hunter2",
        ),
        *("https://hooks.example:port/hunter2", "https://hooks.example/#hunter2", "https://hooks.example/hunter2 x"),
        *("https://[hooks/hunter2", "javascript:hunter2", "hunter2"),
    ],
)
def test_an_address_for_alerts_that_is_none_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ALERT_URL", url)
    line = error_of()
    assert line.startswith("ALERT_URL: got a value that is not shown, takes an address that begins with https://")
    assert "hunter2" not in line


def test_alerts_need_a_secret_and_do_not_show_their_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALERT_URL", "https://user:pass@hooks.example:8443/in?token=hunter2")
    line = error_of()
    assert line.startswith("ALERT_URL needs ALERT_SECRET_FILE (--alert-secret-file)")
    assert "hunter2" not in line
    secret = tmp_path / "secret"
    secret.touch()
    settings = load_settings([f"--alert-secret-file={secret}"])
    assert settings.alert_secret_file == secret
    assert "hunter2" not in repr(settings)


def test_s3_needs_a_bucket() -> None:
    line = error_of("--profile-backend", "s3")
    assert "AUTH_PROFILE_S3_BUCKET (--auth-profile-s3-bucket)" in line
    assert load_settings(["--profile-backend=s3", "--auth-profile-s3-bucket=b"]).auth_profile_s3_bucket == "b"


KEYED = ("--session-dir=/volume/sessions", f"--session-key-file={__file__}")
IN_S3 = ("--profile-backend=s3", "--auth-profile-s3-bucket=b", *KEYED)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([f"--session-key-file={__file__}"], "SESSION_KEY_FILE needs SESSION_DIR (--session-dir)"),
        (["--session-s3-prefix=s"], "SESSION_S3_PREFIX needs SESSION_DIR (--session-dir)"),
        (["--session-dir=/p/a/s", "--profiles=/p/a"], "SESSION_DIR=/p/a/s lies in LOCAL_PROFILE_DIR=/p/a"),
        ([*IN_S3, "--auth-profile-cache-dir=/volume"], "SESSION_DIR=/volume/sessions lies in AUTH_PROFILE_CACHE_DIR"),
        ([*KEYED, "--session-s3-prefix=s"], "(--session-s3-prefix) needs PROFILE_BACKEND=s3"),
        ([*IN_S3[:-1], "--session-s3-prefix=s"], "needs SESSION_KEY_FILE (--session-key-file): nothing goes to S3"),
        ([*IN_S3, "--session-s3-prefix=active"], "overlaps with active, which must stay read-only"),
        ([*IN_S3, "--session-s3-prefix=/active/x/"], "beside it, such as sessions"),
        ([*IN_S3, "--session-s3-prefix=/"], "overlaps with active"),
        ([*IN_S3, "--auth-profile-s3-prefix=a/b", "--session-s3-prefix=a"], "beside it, such as a/b/sessions"),
        ([*IN_S3, "--auth-profile-s3-prefix=a", "--session-s3-prefix=a/key.txt"], "overlaps with a/key.txt"),
    ],
    ids=range(11),
)
def test_sessions_have_a_place_of_their_own(argv: list[str], says: str) -> None:
    line = error_of(*argv)
    assert says in line
    assert "\n" not in line


def test_sessions_may_go_beside_the_profiles() -> None:
    given = load_settings([*IN_S3, "--auth-profile-s3-prefix=a", "--session-s3-prefix=/a/active-sessions/"])
    assert given.session_s3_prefix == "a/active-sessions"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--prot-step", "1"], "did you mean --port-step?"),
        (["--port-ste", "1"], "unknown flag --port-ste"),
        (["--max-queue"], "--max-queue: expected one argument"),
        (["serve"], "takes flags only"),
    ],
)
def test_a_wrong_command_line_is_explained_in_one_line(argv: list[str], says: str) -> None:
    line = error_of(*argv)
    assert says in line
    assert "\n" not in line


def test_an_unknown_flags_value_is_not_repeated() -> None:
    assert "hunter2" not in error_of("--password=hunter2")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().max_queue = 1


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("box", False)],
)
def test_loopback_addresses(host: str, loopback: bool) -> None:
    assert load_settings(["--coordinator-host", host]).bound_to_loopback is loopback


def test_help_lists_every_setting_and_the_iam_actions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        load_settings(["--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in table():
        assert option.variable in text
        assert option.flag is None or option.flag in text
        assert option.default in text
    assert "s3:ListBucket" in text
    assert "s3:GetObject" in text


def test_the_help_of_each_s3_flag_names_permissions() -> None:
    flags = ("AUTH_PROFILE_S3_BUCKET", "AUTH_PROFILE_S3_PREFIX", "AUTH_PROFILE_S3_REGION")
    for option in table():
        if option.variable in flags:
            assert "IAM" in option.meaning


def test_the_documented_table_is_current() -> None:
    shown = (ROOT / "docs/settings.md").read_text()
    assert shown == settings_markdown(), "run: python -m coordinator.flags > docs/settings.md"


def test_the_table_does_not_depend_on_environment_or_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAX_QUEUE", "3")
    assert settings_markdown() == (ROOT / "docs/settings.md").read_text()
    assert os.fspath(tmp_path) not in settings_markdown()


@pytest.mark.parametrize("engine", ["chromium", "firefox"])
def test_logins_share_a_browser_of_an_engine_that_can(engine: str) -> None:
    assert load_settings(["--engine", engine]).logins_per_browser == 1
    assert load_settings(["--engine", engine, "--logins-per-browser", "16"]).logins_per_browser == 16


@pytest.mark.parametrize("number", ["0", "17", "many"])
def test_a_number_of_logins_that_no_browser_takes(number: str) -> None:
    assert error_of("--engine", "chromium", "--logins-per-browser", number) == (
        f"--logins-per-browser (LOGINS_PER_BROWSER): got '{number}', takes a whole number from 1 to 16"
    )


def test_camoufox_has_one_login_a_browser() -> None:
    assert load_settings(["--logins-per-browser", "1"]).browser_engine == "camoufox"
    assert error_of("--logins-per-browser", "2") == (
        "LOGINS_PER_BROWSER=2 (--logins-per-browser) needs BROWSER_ENGINE=chromium or firefox: with camoufox each "
        "browser is one identity, which two logins must not share"
    )


@pytest.mark.parametrize("engine", ["chromium", "firefox", "camoufox"])
def test_spare_browsers_are_kept_of_each_engine(engine: str) -> None:
    assert load_settings(["--engine", engine]).spare_browsers == 0
    assert load_settings(["--engine", engine, "--spare-browsers", "2"]).spare_browsers == 2
    assert error_of("--engine", engine, "--spare-browsers", "-1").startswith("--spare-browsers (SPARE_BROWSERS): got")


@pytest.mark.parametrize(
    "text", ["1", "x/2", "3/3", "0/0", "-1/2", "0/1001", "1/2/3", "hostname", "hostname/0", "1 /2"]
)
def test_a_share_that_is_none_is_an_error(text: str) -> None:
    assert error_of(f"--shard={text}").startswith(f"--shard (SHARD): got {text!r}, takes i/n with 0 <= i < n <= 1000")


def test_without_a_share_there_is_no_cell() -> None:
    settings = load_settings()
    assert (settings.is_cell, settings.own_shard, settings.own_cell) == (False, None, None)


def test_a_cell_takes_the_hosts_name_unless_it_is_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "tabfleet-3")
    monkeypatch.setenv("SHARD", "1/4")
    settings = load_settings()
    assert (settings.is_cell, settings.own_shard, settings.own_cell) == (True, Shard(1, 4), "tabfleet-3")
    assert load_settings(["--cell", "west.a_1"]).own_cell == "west.a_1"


@pytest.mark.parametrize(("host", "index"), [("tabfleet-3", 3), ("a-1-0", 0), ("cells-2.tabfleet.svc", 2)])
def test_a_pods_name_says_which_share_it_takes(monkeypatch: pytest.MonkeyPatch, host: str, index: int) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert load_settings(["--shard", "hostname/4"]).own_shard == Shard(index, 4)


@pytest.mark.parametrize(("host", "says"), [("web3", "does not end in a hyphen and a number"), ("web-4", "ends in 4")])
def test_a_host_without_a_share_is_an_error(monkeypatch: pytest.MonkeyPatch, host: str, says: str) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    line = error_of("--shard=hostname/4")
    assert line.startswith(f"SHARD=hostname/4 (--shard): the host's name, '{host}', {says}")
    assert line.endswith("; name the share itself, as i/n")
