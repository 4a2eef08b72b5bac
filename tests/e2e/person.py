"""A person with a phone: a second real browser, on the page of a login from anywhere."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright

from tests.browser.profiles import login_cookie
from tests.e2e.fleet import Fleet, chromium, eventually, fetch
from tests.support.waiting import HANG_LIMIT_S

PHONE = {"width": 390, "height": 844}
PATIENCE_S = 2 * HANG_LIMIT_S  # browsers start on the way
HANG_MS = PATIENCE_S * 1000


@contextmanager
def phone(playwright: Playwright, engine: str) -> Iterator[Browser]:
    if engine == "firefox":
        browser = playwright.firefox.launch(channel="moz-firefox", executable_path=firefox())
    else:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--disable-quic", "--disable-gpu"])
    try:
        yield browser
    finally:
        browser.close()


def firefox() -> str:
    found = shutil.which("firefox-esr") or shutil.which("firefox")
    assert found, "no Firefox: run make test-firefox"
    return found


def new_page(browser: Browser, engine: str) -> Page:
    # Playwright cannot make Firefox take touches.
    touch: Any = {"has_touch": True, "is_mobile": True, "device_scale_factor": 3} if engine == "chromium" else {}
    page = browser.new_context(viewport=PHONE, **touch).new_page()  # type: ignore[arg-type]
    page.set_default_timeout(HANG_MS)
    return page


def begin(running: Fleet, **wanted: Any) -> str:
    """Ask for a login as an operator does; return the link's whole address."""
    key = {"authorization": f"Bearer {running.key}"}
    status, begun = fetch(f"{running.url}/admin/logins", headers=key, body=wanted)
    assert status == 201, begun
    return f"{running.url}{begun['link']}"


def open_link(page: Page, link: str) -> None:
    """Open the link, and wait until the login page is seen in the size of the phone."""
    page.goto(link)
    page.click("#open")
    page.wait_for_selector("body[data-phase=live] #note:empty", state="attached")
    eventually(lambda: 0 < shown_width(page) <= PHONE["width"], timeout_s=PATIENCE_S, what="a picture that fits")


def shown_width(page: Page) -> int:
    width: int = page.locator("#screen").evaluate("(screen) => screen.dataset.drawn ? screen.width : 0")
    return width


def wait_picture(page: Page, act: Callable[[], object]) -> None:
    """Do something, and wait for a picture that came after it."""
    count = "(screen) => Number(screen.dataset.drawn)"
    before = page.locator("#screen").evaluate(count)
    act()
    eventually(lambda: page.locator("#screen").evaluate(count) > before, timeout_s=PATIENCE_S, what="a picture")


def place_of(page: Page, url: str, selector: str) -> tuple[float, float]:
    """Return where an element of a page is on the phone's screen, when the fleet's browser shows that page."""
    box = page.locator("#screen").bounding_box()
    assert box
    other = page.context.new_page()
    other.set_viewport_size({"width": round(box["width"]), "height": round(box["height"])})
    other.goto(url)
    field = other.locator(selector).first
    field.click(trial=True)  # once it has its place
    inside = field.bounding_box()
    assert inside
    other.close()
    return box["x"] + inside["x"] + inside["width"] / 2, box["y"] + inside["y"] + inside["height"] / 2


def write_text(page: Page, text: str) -> None:
    """Enter a text as an input method does: no key tells of it."""
    page.focus("#text")
    page.keyboard.insert_text(text)


def paste(page: Page, text: str) -> None:
    page.click("#paste")
    page.fill("#pasted", text)
    page.click("#send")


def dead_login(folder: Path, name: str) -> Path:
    """Save a profile whose session the site does not know any more."""
    folder.mkdir(mode=0o700)
    state = {"cookies": [login_cookie("no-session-of-this-site", time.time() + 86_400)], "origins": []}
    (folder / f"{name}.json").write_text(json.dumps(state))
    return folder


def without_display() -> dict[str, str]:
    return dict.fromkeys(("DISPLAY", "WAYLAND_DISPLAY"), "")
