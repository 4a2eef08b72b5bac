"""Pages that a child serves without a login, or logs in to by itself, in real Chromium."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from browser.errors import LoginExpired, PageBroken, ProfileError, ScreenshotTimeout
from browser.page import login_steps
from browser.page.chat_page import ChatPage
from browser.page.login_steps import FAILURES, LoginLog
from browser.site.load import parse_site
from tests.browser.asking import ask
from tests.browser.conftest import Pages, tab_of
from tests.browser.login_page import LOGIN, NOTHING, PASSWORD, USER, WITHOUT, LoginSite, login_site
from tests.support.waiting import eventually

SECRETS: dict[str, Any] = {"secrets": LOGIN}


@pytest.fixture
async def site() -> AsyncIterator[LoginSite]:
    async with login_site() as running:
        yield running


async def serves(page: ChatPage, prompt: str) -> bool:
    return await ask(page, prompt, "memory", request_id=prompt) == f"heard {prompt}"


async def test_a_page_without_a_login_is_served_with_empty_profiles_in_several_browsers(
    shared_pages: Pages, site: LoginSite
) -> None:
    for name in ("one", "other"):
        page = await shared_pages.open(site.file("none", WITHOUT), NOTHING)
        assert page.status.ready, page.status
        assert await serves(page, name)
    assert site.prompts == ["one", "other"]


async def test_answers_in_binary_frames_of_messagepack(shared_pages: Pages, site: LoginSite) -> None:
    text = site.text("none?msgpack", WITHOUT).replace('"jsonl"', '"msgpack"').replace("*/ask", "*/socket")
    page = await shared_pages.open(parse_site(text, "binary.toml"), NOTHING)
    assert await serves(page, "東京 👩‍🚀")
    assert await serves(page, "and again")


async def test_readiness_alone_says_that_a_page_without_a_login_is_usable(shared_pages: Pages, site: LoginSite) -> None:
    page = await shared_pages.open(site.file("none", WITHOUT), NOTHING)
    await tab_of(page).page.evaluate("document.querySelector('#prompt').hidden = true")
    seen = await tab_of(page).look()
    assert seen
    assert (seen.logged_in, seen.usable) == (True, False)


async def test_a_login_in_memory_is_done_at_the_start_and_again_when_it_ends(
    shared_pages: Pages, site: LoginSite
) -> None:
    page = await shared_pages.open(site.file("memory"), SECRETS)
    assert page.status.ready, page.status
    assert await serves(page, "hello")
    assert await serves(page, "hello again")
    assert site.logins == [True]
    site.tokens.clear()
    with pytest.raises(LoginExpired):
        await serves(page, "too late")
    assert page.status.reason in (None, "page_broken")  # not login_expired, for which a new profile is waited for
    await eventually(lambda: page.status.ready and not page.busy, what=lambda: page.status)
    assert await serves(page, "back")
    assert site.logins == [True, True]


@pytest.mark.firefox
async def test_firefox_logs_in_by_steps(shared_pages: Pages, site: LoginSite) -> None:
    page = await shared_pages.open(site.file("memory"), SECRETS, engine="firefox")
    assert page.status.ready, page.status
    assert await serves(page, "hello")
    assert site.logins == [True]


async def test_a_login_that_the_site_keeps_is_not_done_again_at_the_next_start(
    shared_pages: Pages, site: LoginSite, tmp_path: Path
) -> None:
    run_dir = tmp_path / "kept"
    run_dir.mkdir()
    first = await shared_pages.open(site.file("cookie"), SECRETS, run_dir=run_dir)
    assert await serves(first, "hello")
    await eventually(lambda: not first.busy)
    await first.close()
    second = await shared_pages.open(site.file("cookie"), SECRETS, run_dir=run_dir)
    assert await serves(second, "hello again")
    assert site.logins == [True]
    assert second.status.refresh.keeps_login, "whatever its cookie says, the child logs in again"


async def test_a_login_that_is_not_taken_is_tried_twice_and_shows_no_secret(
    shared_pages: Pages,
    site: LoginSite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(login_steps, "AGAIN_AFTER_S", 0.0)
    site.takes_logins = False
    run_dir = tmp_path / "kept"
    run_dir.mkdir()
    file = site.file("memory").model_copy(
        update={"readiness": site.file("memory").readiness.model_copy(update={"timeout_s": 2.0})}
    )
    page = await shared_pages.open(file, SECRETS, run_dir=run_dir, login_check_s=0.1)
    assert page.status.reason == "page_broken"
    fields = "[...document.querySelectorAll('input')].map((field) => field.value)"
    assert await tab_of(page).page.evaluate(fields) == ["", ""]
    await eventually(lambda: page.status.reason == "login_expired", what=lambda: page.status)
    assert page.status.detail
    assert "2 times in a row" in page.status.detail
    assert site.logins == [False] * FAILURES
    for output in (*capfd.readouterr(), repr(page.status), *(file.read_text() for file in run_dir.rglob("*.json"))):
        assert USER not in output
        assert PASSWORD not in output


async def test_no_picture_is_taken_while_the_page_may_show_secrets(shared_pages: Pages, site: LoginSite) -> None:
    page = await shared_pages.open(site.file("memory"), SECRETS)
    assert page._opened
    log_in = page._opened.page._log_in
    assert log_in
    async with log_in.may_show_secrets:
        with pytest.raises(ScreenshotTimeout):
            await page.screenshot(0.2)
    assert await page.screenshot()


@pytest.mark.parametrize(
    ("login", "state", "says"),
    [
        ("[login]\nlogged_in = [{ selector = '#me' }]\n", NOTHING, "holds no cookie and no stored value"),
        ("[login]\nlogged_in = [{ selector = '#me' }]\n", SECRETS, "holds only secrets, and the site file has no"),
        (None, NOTHING, "has no secret 'password', which login.steps fill in"),
        (None, {"secrets": {"user": "ada"}}, "has no secret 'password', which login.steps fill in"),
    ],
    ids=["nothing", "secrets without steps", "steps without secrets", "one secret missing"],
)
async def test_a_profile_that_does_not_fit_the_site_file_is_refused_at_the_start(
    shared_pages: Pages, site: LoginSite, login: str | None, state: dict[str, Any], says: str
) -> None:
    file = site.file("memory", login) if login else site.file("memory")
    with pytest.raises(ProfileError, match=says):
        await shared_pages.open(file, state)


def log_of(folder: Path, digest: str = "a", most: int = 3) -> LoginLog:
    return LoginLog(folder, digest, most)


def test_the_steps_are_done_so_often_in_an_hour_and_no_more_whatever_restarts(tmp_path: Path) -> None:
    for _ in range(3):
        log = log_of(tmp_path)
        log.begin()
        log.succeed()
    with pytest.raises(PageBroken, match=r"3 times within an hour.*login\.max_per_hour"):
        log_of(tmp_path).begin()
    log_of(tmp_path, digest="of a new profile").begin()
    kept = json.loads((tmp_path / "logins.json").read_text())
    (tmp_path / "logins.json").write_text(json.dumps(kept | {"done_at": [at - 3601 for at in kept["done_at"]]}))
    log_of(tmp_path, digest="of a new profile", most=1).begin()


def test_after_one_without_success_the_next_waits_and_after_two_there_is_one_for_each_start(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    log.begin()
    assert not isinstance(log.fail(), LoginExpired)
    for again in (log, log_of(tmp_path)):
        with pytest.raises(PageBroken, match="tried again after 60 s"):
            again.begin()
    path = tmp_path / "logins.json"
    for _ in range(2):  # as the child that waited, and as one that an operator starts after that
        kept = json.loads(path.read_text())
        path.write_text(json.dumps(kept | {"done_at": [at - 61 for at in kept["done_at"]]}))
        log = log_of(tmp_path)
        log.begin()
        assert isinstance(log.fail(), LoginExpired)
        with pytest.raises(LoginExpired, match="2 times in a row"):
            log.begin()


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"source_sha256": "a", "done_at": "x", "failures": 1}'])
def test_a_record_that_cannot_be_read_counts_as_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "logins.json").write_bytes(damage)
    log_of(tmp_path).begin()


def test_where_logins_cannot_be_counted_none_is_done(tmp_path: Path) -> None:
    (tmp_path / "logins.json").mkdir()
    with pytest.raises(PageBroken, match="the run folder cannot be written to"):
        log_of(tmp_path).begin()
