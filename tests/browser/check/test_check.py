"""`python -m browser.check` on the demo site, with real browsers: what passes, what fails, and what it then says."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from browser.check import __main__ as program
from browser.check import steps_open
from browser.check.checkup import Checkup
from browser.check.context import PROMPT
from browser.check.outcome import Exit, StepReport, StepResult
from browser.check.plain_text import plain
from browser.check.screen import Screen
from browser.check.steps import OPENING, SENDING
from browser.check.traffic import PageRequest, mismatch
from browser.settings import VariableError
from browser.site.load import SITES_DIR
from browser.site.schema import Network
from demo.site import DemoSite
from tests.browser.conftest import SharedBrowser, SharedBrowserProcess
from tests.browser.login_page import LOGIN, WITHOUT, LoginSite, login_site
from tests.browser.profiles import cookie_state, no_login, write_profile
from tests.browser.short_login_page import REFRESH_LINE, short_site
from tests.browser.small_proxy import LOGIN as PROXY_LOGIN
from tests.browser.small_proxy import small_proxy
from tests.support.png import decode
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
HANG_S = 60.0
LONG = "[[tokens=5000]]"


@dataclass
class Checked:
    code: int
    lines: list[str]

    def line(self, name: str) -> str:
        """The line of the step of that name."""
        return next(line for line in self.lines if re.match(rf"\w+ +{re.escape(name)} ", line))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def site_file(folder: Path, demo: DemoSite, *changes: str) -> Path:
    """The demo's site file with changes of the form old|new."""
    text = (SITES_DIR / "demo.toml").read_text().replace("http://127.0.0.1:8800", demo.url)
    for change in changes:
        old, new = change.split("|", 1)
        assert old in text
        text = text.replace(old, new)
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8-sig")  # as editors on Windows save it
    return path


async def check(folder: Path, demo: DemoSite, *flags: str, changes: tuple[str, ...] = (), **state: Any) -> Checked:
    """Run the check in this process, as the program does."""
    profile = write_profile(folder / "login.json", state or cookie_state(demo))
    given = [str(site_file(folder, demo, *changes)), "--active-auth-json", str(profile), "--engine", "chromium"]
    options = program.parser().parse_args([*given, "--answer-timeout-s", "20", *flags])
    out = io.StringIO()
    run_dir = folder / "run"
    run_dir.mkdir()
    checkup = Checkup(program.plan(options), Screen(Console(file=out)), run_dir, folder / "report")
    code = await asyncio.wait_for(checkup.run(), HANG_S)
    return Checked(code, out.getvalue().splitlines())


@pytest.fixture(autouse=True)
def one_browser(shared_browser: SharedBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give `check` the module's browser. The program's own is started where a test starts the program."""
    monkeypatch.setattr(
        steps_open, "BrowserProcess", lambda run_dir, **_: SharedBrowserProcess(shared_browser, run_dir)
    )


async def start_program(*arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "browser.check", *arguments),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


def saved(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


async def test_all_steps_of_a_good_file_pass(tmp_path: Path, demo: DemoSite) -> None:
    """Behind the login's own proxy, through which all of it goes."""
    profile = write_profile(tmp_path / "ada.json", cookie_state(demo))
    arguments = ["demo", "--active-auth-json", str(profile), "--engine", "chromium", "--stop-prompt", LONG]
    arguments += ["--proxy-file", str(tmp_path / "proxy"), "--model", "demo-large"]
    async with small_proxy("socks5") as small:
        small.login = PROXY_LOGIN
        (tmp_path / "proxy").write_text(small.url_with_login)
        process = await start_program(*arguments, SITE_URL=demo.url, TMPDIR=str(tmp_path))
        out, error = await asyncio.wait_for(process.communicate(), HANG_S)
    assert demo.url.removeprefix("http://") in small.asked
    assert (process.returncode, error) == (0, b""), out.decode()
    *steps, last = (line for line in out.decode().splitlines() if not line.startswith(" "))
    expected = ["site file"] + [step.name for step in (*OPENING, *SENDING)]
    assert [line.split()[0] for line in steps] == ["skip" if name == "login refresh" else "ok" for name in expected]
    assert [line[6:20].strip() for line in steps] == expected
    assert last.startswith("passed in ")
    asked, stopped = demo.ledger.entries()
    assert (asked.prompt, asked.model, asked.outcome) == (PROMPT, "demo-large", "done")
    assert (stopped.prompt, stopped.outcome) == (LONG, "stopped")
    assert plain("".join(asked.pieces), 60)[:-1] in out.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ada.json", "proxy"]


async def test_a_proxy_that_fails_is_named_in_place_of_the_page(tmp_path: Path, demo: DemoSite) -> None:
    async with small_proxy("socks5") as small:
        (tmp_path / "proxy").write_text(small.url)
        small.stop()
    checked = await check(tmp_path, demo, "--proxy-file", str(tmp_path / "proxy"))
    assert checked.code == Exit.FAILED
    assert "the login's proxy refuses connections; does it run?" in checked.text
    assert "--proxy-file" in checked.text
    with pytest.raises(VariableError, match=r"--proxy-file: .*nowhere cannot be read"):
        await check(tmp_path / "run", demo, "--proxy-file", str(tmp_path / "nowhere"))


async def check_login_page(
    folder: Path, text: str, profile: dict[str, Any] | None, *flags: str
) -> tuple[Checked, dict[str, str]]:
    """Check the page of `tests.browser.login_page`; return the result, and what was saved of it."""
    (folder / "mine.toml").write_text(text)
    given = [str(folder / "mine.toml"), "--engine", "chromium", "--answer-timeout-s", "20", *flags]
    if profile is not None:
        given += ["--active-auth-json", str(write_profile(folder / "login.json", profile))]
    out = io.StringIO()
    (folder / "run").mkdir()
    options = program.parser().parse_args(given)
    checkup = Checkup(program.plan(options), Screen(Console(file=out)), folder / "run", folder / "report")
    code = await asyncio.wait_for(checkup.run(), HANG_S)
    evidence = {file.name: file.read_bytes().decode("latin-1") for file in (folder / "report").glob("*")}
    return Checked(code, out.getvalue().splitlines()), evidence


@pytest.mark.parametrize(
    ("refresh", "rotates", "status", "mark", "says"),
    [
        ("fetch = '/api/renew', method = 'POST'", True, 200, "ok", "POST /api/renew says 200; the login expires 20"),
        ("visit = '/renew'", False, 200, "warn", "/renew was loaded; the login expires 20"),
        ("visit = '/renew'", True, 500, "fail", "/renew is answered with status 500"),
        ("steps = [{ click = '#away' }]", True, 200, "ok", "1 steps were done; the login expires 20"),
        ("steps = [{ click = '#gone', timeout_s = 0.5 }]", True, 200, "fail", "the step click = '#gone'"),
    ],
    ids=["fetch", "nothing gained", "error", "steps", "no such step"],
)
async def test_the_check_refreshes_the_login_once(
    tmp_path: Path, *, refresh: str, rotates: bool, status: int, mark: str, says: str
) -> None:
    async with short_site() as site:
        site.rotates, site.status = rotates, status
        text = site.text(f"refresh = {{ {refresh}, before_expiry_s = 3600 }}")
        checked, _ = await check_login_page(tmp_path, text, site.state(), "--no-send")
    line = checked.line("login refresh")
    assert line.startswith(mark), checked.text
    assert says in line
    assert checked.code == (Exit.FAILED if mark == "fail" else Exit.PASSED), checked.text
    if mark == "fail":
        assert re.search(rf"mine\.toml, line {REFRESH_LINE} \(login\.refresh", checked.text), checked.text
    assert len(site.renewals) == (0 if "#gone" in refresh else 1)


async def test_a_site_without_a_login_is_checked_without_a_login_file(tmp_path: Path) -> None:
    async with login_site() as site:
        checked, _ = await check_login_page(tmp_path, site.text("none", WITHOUT), None, "--no-send")
    assert checked.code == Exit.PASSED, checked.text
    assert "the site has no login, and the page can take a prompt" in checked.line("logged in")
    assert checked.line("logged out").startswith("skip")


async def test_a_login_file_is_asked_for_where_the_site_has_a_login(tmp_path: Path) -> None:
    checked, _ = await check_login_page(tmp_path, LoginSite("http://127.0.0.1:9").text("memory"), None)
    assert checked.code == Exit.USAGE
    assert "there is none, and the site has a login" in checked.line("login file")


async def test_the_check_logs_in_by_steps_and_shows_no_secret(tmp_path: Path) -> None:
    async with login_site() as site:
        flags = ("--prompt", "hello", "--stop-prompt", "hello again")
        checked, evidence = await check_login_page(tmp_path, site.text("memory"), {"secrets": LOGIN}, *flags)
        assert site.logins == [True]
        assert site.prompts[0] == "hello"
    assert "now it is logged in, by 3 steps (login.steps)" in checked.line("logged in"), checked.text
    assert "secrets: password, user" in checked.line("login file")
    assert {"events.jsonl", "requests.jsonl"} <= evidence.keys()
    for text in (checked.text, *evidence.values()):
        assert not [secret for secret in LOGIN.values() if secret in text]


async def test_a_login_by_steps_that_fails_names_the_steps_and_shows_no_secret(tmp_path: Path) -> None:
    async with login_site() as site:
        text = site.text("memory").replace('click = "#enter"', 'click = "#entr", timeout_s = 1')
        checked, evidence = await check_login_page(tmp_path, text, {"secrets": LOGIN})
        assert site.logins == []
    assert checked.code == Exit.FAILED
    assert "the step click = '#entr', timeout_s = 1.0 took too long" in checked.line("logged in")
    assert "      '#entr' finds nothing on the page" in checked.lines
    assert any(re.search(r"look at .*mine\.toml, line \d+ \(login\.steps\)", line) for line in checked.lines)
    assert "{secret:user}" in evidence["requests.jsonl"]
    for output in (checked.text, *evidence.values()):
        assert not [secret for secret in LOGIN.values() if secret in output]


@pytest.mark.parametrize(
    ("change", "end", "page_text"),
    [
        ((), "of reasoning, ", "ok"),
        (("data.type == 'thought'|data.type == 'thinking'",), "characters, ", "warn"),
    ],
)
async def test_reasoning_is_told_of_and_missed(
    tmp_path: Path, demo: DemoSite, change: tuple[str, ...], end: str, page_text: str
) -> None:
    prompt = f"[[think={b'So, it rains.'.hex()}]]"
    checked = await check(tmp_path, demo, "--prompt", prompt, "--stop-prompt", LONG, changes=change)
    assert checked.code == Exit.PASSED, checked.text
    assert end in checked.line("end")
    assert checked.line("page's text").startswith(page_text)
    assert ("look at" in checked.text and "(capture.network.reasoning)" in checked.text) == (page_text == "warn")


async def test_an_answer_that_comes_whole_at_its_end_is_stopped_before(tmp_path: Path, demo: DemoSite) -> None:
    text = (SITES_DIR / "demo.toml").read_text()
    network = text[text.index("[capture.network]") : text.index("[capture.dom]")]
    changes = (f"{network}|", "[capture.dom]|[capture.dom]\nstream = false")
    checked = await check(tmp_path, demo, "--stop-prompt", LONG, changes=changes)
    assert checked.line("stop").startswith("ok"), checked.text
    assert demo.ledger.entries()[-1].outcome == "stopped"


@pytest.mark.parametrize("name", ["chat", "chats"])
async def test_a_request_of_the_send_that_is_never_made_is_named(tmp_path: Path, demo: DemoSite, name: str) -> None:
    """It would never end a prompt, and nobody would notice."""
    change = f'[send]|[send]\nrequest = {{ url = "*/api/{name}" }}'
    checked = await check(tmp_path, demo, "--stop-prompt", LONG, changes=(change,))
    assert checked.code == Exit.PASSED, checked.text
    assert checked.line("end").startswith("ok" if name == "chat" else "warn")
    assert ("(send.request.url)" in checked.text) == (name == "chats")


@pytest.mark.parametrize(
    ("place", "mark", "key"),
    [
        ('url = "*/api/chats", json = "prompt"', "warn", "url"),
        ('url = "*/api/chat", json = "prompts"', "warn", "json"),
        ('url = "*/api/chat", json = "model"', "fail", "json"),
        ('selector = "[data-role=user] .no"', "warn", "selector"),
    ],
)
async def test_what_the_page_made_of_the_prompt_is_compared(
    tmp_path: Path, demo: DemoSite, place: str, mark: str, key: str
) -> None:
    change = f'{{ url = "*/api/chat", json = "prompt" }}|{{ {place} }}'
    checked = await check(tmp_path, demo, "--stop-prompt", LONG, changes=(change,))
    assert checked.code == (Exit.FAILED if mark == "fail" else Exit.PASSED), checked.text
    assert checked.line("sent prompt").startswith(mark)
    assert re.findall(r"\(send\.prompt\.(\w+)\)", checked.text) == [key] * bool(key)
    if mark == "fail":
        assert "the page made another prompt of it: character 1 of 46 is a letter" in checked.text


async def test_traffic_that_is_not_caught_is_shown_and_kept(tmp_path: Path, demo: DemoSite) -> None:
    checked = await check(tmp_path, demo, changes=("*/api/chat|*/api/chats",))
    assert checked.code == Exit.FAILED
    assert checked.line("first event").endswith("none of its traffic is caught")
    assert f"        POST {demo.url}/api/chat  (fetch: 200 text/event-stream)" in checked.lines
    file = tmp_path / "mine.toml"
    line = file.read_text().splitlines().index('url = "*/api/chats"') + 1
    assert f"look at {file}, line {line} (capture.network.url)" in checked.text
    assert "      not tried: first text, end, sent prompt, page's text, fresh again, stop" in checked.lines
    report = tmp_path / "report"
    assert decode((report / "screenshot.png").read_bytes()).variety > 10
    assert any(row["url"] == f"{demo.url}/api/chat" and row["status"] == 200 for row in saved(report, "requests.jsonl"))
    assert any(row["kind"] == "dom_set" for row in saved(report, "events.jsonl"))
    assert stat.S_IMODE(report.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in report.iterdir()} == {0o600}


async def test_events_without_text_are_shown_and_kept(tmp_path: Path, demo: DemoSite) -> None:
    changes = ("data.text|data.txt", "type == 'done'|type == 'over'")
    checked = await check(tmp_path, demo, changes=changes)
    assert checked.code == Exit.FAILED
    assert checked.line("first text").startswith("fail")
    assert "      capture.network.text finds something in none of 28 events" in checked.lines
    assert '        data: {"type": "start", "id": 1, ' in checked.text
    rows = [row for row in saved(tmp_path / "report", "events.jsonl") if row["kind"] == "event"]
    assert "".join(row["data"].get("text", "") for row in rows) == "".join(demo.ledger.entries()[0].pieces)
    assert all(row["found"] == {} for row in rows)


@pytest.mark.parametrize(
    ("change", "keys", "prompt"),
    [
        ('url = "*/api/chat"|url = "*/api/chats"', ["network.url"], ""),
        ('method = "POST"|method = "PUT"', ["network.method"], ""),
        ('kind = "sse"|kind = "jsonl"', ["network.kind"], ""),
        ("'token' && data.text|'token' && data.txt", ["network.text"], ""),
        ("type == 'done'|type == 'over'", ["network.end"], ""),
        ("type == 'done'|type == 'start'", ["network.end", "network.text"], ""),
        ("type == 'error'|type == 'oops'", ["network.error"], "[[error=refused]]"),
        ("type == 'error' && data.message|type == 'token' && data.text", ["network.error"], ""),
        ("[data-testid=content]|[data-testid=contents]", ["dom.answer"], ""),
    ],
)
async def test_a_wrong_key_is_named_with_its_line(
    tmp_path: Path, demo: DemoSite, change: str, keys: list[str], prompt: str
) -> None:
    """The first key that is named is the one that is wrong; mostly it is the only one."""
    checked = await check(tmp_path, demo, *(("--prompt", prompt) if prompt else ()), changes=(change,))
    assert checked.code == Exit.FAILED
    named = re.findall(r"line (\d+) \(capture\.([\w.]+)\)", checked.text)
    assert [key for _, key in named] == keys
    right, wrong = (path.read_text().splitlines() for path in (SITES_DIR / "demo.toml", tmp_path / "mine.toml"))
    changed = [at for at, lines in enumerate(zip(right, wrong, strict=True), 1) if lines[0] != lines[1]]
    assert int(named[0][0]) == changed[-1]  # the address of the site is the other


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ('answering = "[data-testid=stop]"|answering = "#no-stop"', "stop.answering"),
        (
            'actions = [{ click = "[data-testid=stop]" }]|actions = [{ click = "#no-stop", timeout_s = 0.5 }]',
            "stop.actions",
        ),
    ],
)
async def test_what_does_not_stop_an_answer_is_named(tmp_path: Path, demo: DemoSite, change: str, key: str) -> None:
    checked = await check(tmp_path, demo, "--stop-prompt", LONG, changes=(change,))
    assert checked.code == Exit.FAILED
    assert checked.line("stop").startswith("fail")
    assert re.findall(r"line \d+ \(([\w.]+)\)", checked.text)[0] == key


async def test_a_login_that_ends_in_an_answer_is_not_blamed_on_its_end(tmp_path: Path, demo: DemoSite) -> None:
    checked = await check(tmp_path, demo, "--prompt", "[[error=expired]]")
    assert checked.code == Exit.LOGGED_OUT
    assert "capture." not in "".join(re.findall(r"look at .*", checked.text))
    assert "(login.logged_in)" in checked.text


async def test_other_requests_of_the_same_address_are_not_blamed(tmp_path: Path, demo: DemoSite) -> None:
    """The page also gets /api/me, which is no POST."""
    changes = ('url = "*/api/chat"|url = "*/api/*"', "data.text|data.txt")
    checked = await check(tmp_path, demo, changes=changes)
    assert re.findall(r"\((capture[\w.]+)\)", checked.text) == ["capture.network.text"]


async def test_a_login_that_is_none(tmp_path: Path, demo: DemoSite) -> None:
    checked = await check(tmp_path, demo, **no_login())
    assert checked.code == Exit.LOGGED_OUT
    assert "the page shows that it is logged out" in checked.line("logged in")
    assert "      logged_out: '[data-testid=login-form]' finds 1 element, visible" in checked.lines
    assert not demo.ledger.entries()


async def test_a_marker_that_holds_without_the_login_too(tmp_path: Path, demo: DemoSite) -> None:
    anywhere = 'logged_in = [{ selector = "[data-testid=account]" }]|logged_in = [{ selector = "body" }]'
    never = "[data-testid=login-form]|#nothing"
    without = ('[readiness]\nselector = "[data-testid=prompt]"|[readiness]\ntimeout_s = 5.0',)
    checked = await check(tmp_path, demo, "--no-send", changes=(anywhere, never, *without))
    assert checked.code == Exit.FAILED
    assert "without the login, too, the page counts as logged in" in checked.line("logged out")


async def test_a_refusal_is_told_from_a_failure(tmp_path: Path, demo: DemoSite) -> None:
    checked = await check(tmp_path, demo, "--prompt", "[[error=quota]]")
    assert checked.code == Exit.REFUSED
    assert re.search(r"^fail .* the site refuses further prompts for now$", checked.text, re.MULTILINE)
    assert re.search(r"^ +look at .*, line \d+ \(refusals\)$", checked.text, re.MULTILINE)


async def test_ctrl_c_closes_the_browser_and_leaves_nothing(tmp_path: Path, demo: DemoSite) -> None:
    profile = write_profile(tmp_path / "ada.json", cookie_state(demo))
    arguments = ["demo", "--active-auth-json", str(profile), "--engine", "chromium", "--prompt", "[[stall=first]]"]
    process = await start_program(*arguments, SITE_URL=demo.url, TMPDIR=str(tmp_path))
    await eventually(demo.ledger.entries, timeout_s=HANG_S)
    process.send_signal(signal.SIGINT)
    _, error = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode == Exit.INTERRUPTED
    assert error == b"browser.check: interrupted; the browser is closed\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ada.json"]


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["nowhere"], {}, "fail  site file"),
        (["demo", "--model", "gpt"], {}, "no model 'gpt'; it has demo-small"),
        (["demo"], {"SITE_URL": "nowhere"}, "SITE_URL: must be an http"),
        (["demo"], {"BROWSER_ENGINE": "opera"}, "BROWSER_ENGINE: must be one of chromium, firefox, camoufox"),
        (["demo"], {"FIRST_TOKEN_TIMEOUT_S": "soon"}, "FIRST_TOKEN_TIMEOUT_S: input should be a valid number"),
        (["demo", "--answer-timeout-s", "0"], {}, "0 is no number of seconds"),
        (["demo"], {}, "profile nothing.json does not exist"),
    ],
)
def test_wrong_usage_is_one_line(  # noqa: PLR0917 - fixtures, and a table
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    variables: dict[str, str],
    says: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        code = program.main([*arguments, "--active-auth-json", str(tmp_path / "nothing.json")])
    except SystemExit as exited:
        code = int(str(exited.code))
    assert code == Exit.USAGE
    shown = capsys.readouterr()
    assert says in shown.out + shown.err
    assert "Traceback" not in shown.err


SSE = Network.model_validate_json('{"kind": "sse", "url": "*/api", "method": "POST", "text": "data.x"}')


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (PageRequest(0, "fetch", "POST", "http://h/api", 200, "text/event-stream"), ""),
        (PageRequest(0, "fetch", "GET", "http://h/api", 200, "text/event-stream"), "but method is 'POST'"),
        (
            PageRequest(0, "fetch", "POST", "http://h/api", 200, "application/x-ndjson"),
            "kind is 'sse'; expected 'jsonl'",
        ),
        (PageRequest(0, "websocket", "POST", "http://h/api", 101), "kind is 'sse'; expected websocket"),
    ],
)
def test_what_does_not_fit_of_a_request_is_named(asked: PageRequest, says: str) -> None:
    found = mismatch(asked, SSE)
    assert says in "".join(found.hints)
    assert bool(found) == bool(says)


def test_addresses_are_shown_without_what_may_be_secret() -> None:
    assert str(PageRequest(0, "fetch", "GET", "http://h/a?token=secret", 200, "text/plain")) == (
        "GET http://h/a?…  (fetch: 200 text/plain)"
    )


def test_a_terminal_gets_signs_and_the_text_is_never_markup() -> None:
    out = io.StringIO()
    screen = Screen(Console(file=out, force_terminal=True, width=100, color_system=None))
    for mark in ("ok", "warn", "skip", "fail"):
        screen.show(StepReport("step", StepResult("[red]x[/red]", mark, ("[b]hint",)), 1.5))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert lines[0] == "✓  step              1.50 s  [red]x[/red]"
    assert lines[1] == "   [b]hint"
    assert [line[0] for line in lines[::2]] == ["✓", "!", "-", "✗"]
    assert "1.50" not in lines[4]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_no_encoding_has_is_shown_with_escapes(tmp_path: Path, encoding: str) -> None:
    """Of a site file's path here; a page's text may hold half a surrogate pair as well."""
    ended = subprocess.run(
        [sys.executable, "-m", "browser.check", b"sites/n\xffo.toml", "--active-auth-json", str(tmp_path / "me.json")],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Traceback" not in ended.stderr
    assert rb"n\udcffo.toml" in ended.stdout
    assert ended.returncode == Exit.USAGE
