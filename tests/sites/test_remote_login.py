"""A person with a phone renews an expired login of a chat app that nobody here wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.fleet import Site, fleet
from tests.e2e.person import (
    begin,
    dead_login,
    firefox,
    new_page,
    open_link,
    phone,
    place_of,
    wait_picture,
    without_display,
)
from tests.sites.chat_app import LOGIN_FORM, ChatApp, chat_app
from tests.support.ports import NOWHERE

pytestmark = [pytest.mark.sites, pytest.mark.timeout(900)]

START_TIMEOUT_S = 200.0  # on a busy machine Firefox alone takes a minute to start
OPENING_S = 180.0  # as long as an app's page takes to draw itself there


@pytest.fixture(params=["chainlit", pytest.param("gradio", marks=pytest.mark.long)])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChatApp]:
    folder = tmp_path / "app"
    folder.mkdir()
    with chat_app(request.param, folder) as running:
        yield running


# tests/e2e/test_remote_login.py shows it in Firefox, of the demo.
@pytest.mark.parametrize("engine", ["chromium", pytest.param("firefox", marks=pytest.mark.long)])
def test_an_expired_login_is_renewed(app: ChatApp, engine: str, tmp_path: Path) -> None:
    settings = {"CHAT_SITE": app.name, "BROWSER_ENGINE": engine, "HTTPS_PROXY": NOWHERE, **without_display()}
    settings |= {"START_TIMEOUT_S": str(START_TIMEOUT_S)}
    settings |= {"BROWSER_EXECUTABLE": firefox()} if engine == "firefox" else {}
    profiles = dead_login(tmp_path / "active", "ada")
    with (
        fleet(Site(f"{app.url}/", ""), profiles, tmp_path / "fleet", **settings) as running,
        sync_playwright() as driver,
    ):
        running.wait_for(START_TIMEOUT_S, ada="FAILED")
        with phone(driver, engine) as browser:
            page = new_page(browser, engine)
            page.set_default_timeout(OPENING_S * 1000)
            open_link(page, begin(running, profile="ada"))
            place = place_of(page, f"{app.url}{app.kind.login_page}", "input:not([type=password])")
            touch = page.touchscreen.tap if engine == "chromium" else page.mouse.click
            touch(*place)  # the field may have the focus already
            page.focus("#text")
            page.keyboard.type(LOGIN_FORM["username"])
            page.keyboard.press("Tab")
            wait_picture(page, lambda: page.keyboard.type(LOGIN_FORM["password"]))
            page.keyboard.press("Enter")
            page.wait_for_selector("body[data-phase=over]")
            assert page.inner_text("#outcome").startswith("Saved:")
        running.wait_for(START_TIMEOUT_S, ada="READY")
        answer = running.client().chat.completions.create(
            model=app.name, messages=[{"role": "user", "content": "after the login"}]
        )
        assert answer.choices[0].message.content
