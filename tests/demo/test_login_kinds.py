"""Logins of every kind: one-time tokens, tokens in each of a browser's storages, sessions that must be refreshed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright
from yarl import URL

from demo.accounts import CARRIED_BY, LoginKind, Sessions
from demo.chromium import chromium_arguments, find_chromium
from demo.pages import chat_path, login_path
from demo.site import DemoSite
from tests.demo.conftest import NewVisitor
from tests.demo.visitor import Visitor


@pytest.fixture
async def context() -> AsyncIterator[BrowserContext]:
    """A browser with nothing in it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find_chromium(), args=chromium_arguments())
        yield await browser.new_context()
        await browser.close()


async def log_in(page: Page, site: DemoSite, kind: LoginKind) -> None:
    await page.goto(site.url + login_path(kind))
    await page.fill("#username", "ada")
    await page.fill("#password", "lovelace")
    await page.click("[data-testid=log-in]")
    await page.wait_for_selector("[data-testid=account]")


@pytest.mark.slow  # test_login.py does so without a browser, tests/browser/page/test_login.py in the product's
async def test_a_browser_logs_in_and_out_by_every_kind(context: BrowserContext, site: DemoSite) -> None:
    for kind in CARRIED_BY:
        page = await context.new_page()
        await log_in(page, site, kind)
        assert page.url == site.url + chat_path(kind)
        await page.goto(f"{site.url}/any/chat")
        await page.wait_for_selector("[data-testid=account]")
        assert [session["login"] for session in site.sessions.view()] == [kind]
        await page.click("[data-testid=log-out]")
        await page.wait_for_selector("[data-testid=login-form]")
        assert site.sessions.view() == []
        await page.goto(f"{site.url}/any/chat")
        await page.wait_for_selector("[data-testid=login-form]")
        await page.close()
    page = await context.new_page()
    await log_in(page, site, "refresh")
    before = next(cookie for cookie in await context.cookies() if cookie["name"] == "demo_session")
    site.sessions.refresh_ttl_s *= 2
    await page.click("[data-testid=refresh]")
    await page.wait_for_selector("[data-testid=refreshed]")
    after = next(cookie for cookie in await context.cookies() if cookie["name"] == "demo_session")
    assert (after["value"], after["expires"] > before["expires"]) == (before["value"], True)


def token_of(visitor: Visitor) -> str:
    return next(cookie.value for cookie in visitor.http.cookie_jar if cookie.key == "demo_session")


async def with_token(new_visitor: NewVisitor, token: str) -> Visitor:
    visitor = await new_visitor()
    visitor.http.cookie_jar.update_cookies({"demo_session": token}, response_url=URL(visitor.site.url))
    return visitor


@pytest.fixture
async def rotating(new_visitor: NewVisitor) -> Visitor:
    """A client with a login of one-time tokens."""
    visitor = await new_visitor()
    form = {"username": "ada", "password": "lovelace"}
    await visitor.http.post(f"{visitor.site.url}/rotating/login", data=form, allow_redirects=False)
    return visitor


async def test_a_spent_token_ends_the_session(rotating: Visitor, new_visitor: NewVisitor) -> None:
    first = token_of(rotating)
    assert (await rotating.get("/rotating/chat")).status == 200
    assert token_of(rotating) != first
    assert (await rotating.ask("hello")).end == "done"
    thief = await with_token(new_visitor, first)
    assert (await thief.get("/api/me")).status == 401
    assert (await rotating.get("/api/me")).status == 401
    assert rotating.site.sessions.reused == 1


async def test_a_token_whose_response_was_lost_is_given_the_same_next_one(
    rotating: Visitor, new_visitor: NewVisitor
) -> None:
    first = token_of(rotating)
    await rotating.get("/rotating/chat")
    again = await with_token(new_visitor, first)
    assert (await again.get("/rotating/chat")).status == 200
    assert token_of(again) == token_of(rotating)
    assert (await again.get("/api/me")).status == 200
    assert rotating.site.sessions.reused == 0


async def test_a_deleted_cookie_that_comes_back_is_counted(rotating: Visitor) -> None:
    sessions = rotating.site.sessions
    await rotating.ask("deletes the cookie")
    await rotating.ask("has it no more")
    assert sessions.resurrected == 0
    rotating.http.cookie_jar.update_cookies({"demo_welcome": "1"}, response_url=URL(rotating.site.url))
    await rotating.get("/api/me")
    assert sessions.resurrected == 1


def test_a_session_that_must_be_refreshed_ends_without() -> None:
    now = 1000.0
    sessions = Sessions(ttl_s=1000, refresh_ttl_s=60, clock=lambda: now)
    session = sessions.open("ada", "cookie", "refresh")
    now = 1059.0
    sessions.refresh(session)
    now = 1118.0
    assert sessions.is_open(session)
    now = 1119.0
    assert not sessions.is_open(session)


async def test_the_control_api_lists_open_sessions_without_their_tokens(rotating: Visitor) -> None:
    listed = await rotating.control("GET", "sessions")
    assert [(one["account"], one["login"]) for one in listed["open"]] == [("ada", "rotating")]
    assert (listed["reused"], listed["resurrected"]) == (0, 0)
    assert token_of(rotating) not in str(listed)
