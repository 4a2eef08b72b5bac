"""A login from anywhere: a second real browser, of a phone's size, logs in through the link, and the fleet goes on."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from contract.storage_state.document import parse_document
from contract.storage_state.summary import ProfileSummary
from tests.e2e.fleet import PASSWORDS, Site, command_line, descendants, eventually, fetch, fleet
from tests.e2e.person import (
    begin,
    dead_login,
    firefox,
    new_page,
    open_link,
    paste,
    phone,
    place_of,
    wait_picture,
    without_display,
    write_text,
)
from tests.support.waiting import HANG_LIMIT_S

pytestmark = pytest.mark.slow

WRONG = "canary-wrong-password-2f6d"
CALLER = "caller-key"
JPEG = b"\xff\xd8\xff"


@pytest.fixture(params=["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
def engine(request: pytest.FixtureRequest) -> str:
    """The fleet's browser, and the person's."""
    name: str = request.param
    return name


def sent_code(site: Site, account: str) -> str:
    with urllib.request.urlopen(f"{site.url}/code/inbox/{account}", timeout=HANG_LIMIT_S) as response:
        return str(response.read().decode())


def test_an_expired_login_is_renewed_with_a_password_and_a_one_time_code(
    site: Site, engine: str, tmp_path: Path, empty_tmp: Path
) -> None:
    profiles = dead_login(tmp_path / "active", "ada")
    more = {"BROWSER_ENGINE": engine, "LOG_LEVEL": "debug", "TMPDIR": str(empty_tmp), **without_display()}
    more |= {"SITE_URL": f"{site.url}/code/chat"} | ({"BROWSER_EXECUTABLE": firefox()} if engine == "firefox" else {})
    outputs: dict[str, str] = {}
    with fleet(site, profiles, tmp_path / "fleet", **more) as running, sync_playwright() as playwright:
        running.wait_for(ada="FAILED")
        link = begin(running, profile="ada")
        with phone(playwright, engine) as browser:
            page = new_page(browser, engine)
            open_link(page, link)

            # Nobody else can use the link, and who has it may load the page again.
            other = new_page(browser, engine)
            other.goto(link)
            other.wait_for_selector("body[data-phase=over]")
            assert "has been used" in other.inner_text("#outcome")
            page.reload()
            page.wait_for_selector("#screen[data-drawn]")

            log_in(page, site, engine)
            outputs["files"] = contents(empty_tmp)
            page.keyboard.press("Enter")
            page.wait_for_selector("body[data-phase=over]")
            assert page.inner_text("#outcome").startswith("Saved: The login of 'ada' is renewed")
            assert not page.is_visible("#download")
        running.wait_for(ada="READY")

        outputs["/ready"] = json.dumps(running.ready()[1])
        outputs["command lines"] = "\n".join(" ".join(command_line(pid)) for pid in descendants(running.process.pid))
        outputs["files afterwards"] = contents(empty_tmp)
    outputs["log"] = running.log.read_text()
    assert json.loads((profiles / "ada.json").read_text())["cookies"][0]["value"] == "no-session-of-this-site"
    for event in ("login_begun", "login_opened", "login_refused", "login_saved"):
        assert f'"{event}"' in outputs["log"]
    for name, output in outputs.items():
        found = [secret for secret in (PASSWORDS["ada"], WRONG, link.rpartition("/")[2]) if secret in output]
        assert not found, f"{name} shows {found}"
        assert "Traceback" not in output, name


def log_in(page: Page, site: Site, engine: str) -> None:
    """Log ada in by all ways of entering something; the last key is still to come."""
    # A wrong password first: pasted, after a finger or a mouse has chosen the field.
    place = place_of(page, f"{site.url}/code/login", "#password")
    touch = page.touchscreen.tap if engine == "chromium" else page.mouse.click
    wait_picture(page, lambda: touch(*place))
    wait_picture(page, lambda: paste(page, WRONG))
    page.focus("#text")
    page.keyboard.press("Shift+Tab")
    wait_picture(page, lambda: write_text(page, "ada"))
    page.keyboard.press("Enter")
    page.wait_for_selector("#title:text('Wrong username or password.')")

    # Then the right one, by keys, with a mistake taken back.
    page.keyboard.type("adx")
    page.keyboard.press("Backspace")
    page.keyboard.type("a")
    page.keyboard.press("Tab")
    wait_picture(page, lambda: page.keyboard.type(PASSWORDS["ada"]))
    page.keyboard.press("Enter")
    page.wait_for_selector("#title:text('One-time code')")
    code = sent_code(site, "ada")
    page.click("#done")
    page.wait_for_selector("#note:not(:empty)")
    assert "does not show that it is logged in" in page.inner_text("#note")
    wait_picture(page, lambda: write_text(page, code))


def contents(folder: Path) -> str:
    """Return all that stands in files below a folder; none of them may be a picture of ours."""
    texts = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not data.startswith(JPEG), path
            texts.append(data.decode("latin-1"))
    assert texts
    return "\n".join(texts)


def test_a_new_login_is_downloaded_by_whoever_did_it(site: Site, tmp_path: Path) -> None:
    profiles = dead_login(tmp_path / "active", "ada")
    with fleet(site, profiles, tmp_path / "fleet", **without_display()) as running, sync_playwright() as playwright:
        key_file = tmp_path / "fleet" / "key.txt"
        key_file.write_text(f"{key_file.read_text()}{CALLER}\n")
        operator = {"authorization": f"Bearer {running.key}"}
        eventually(lambda: fetch(f"{running.url}/admin/reload", headers=operator, body={})[0] == 200, timeout_s=60)
        wanted: dict[str, Any] = {"profile": "grace", "save": ["download"]}
        for key, code in ((CALLER, "role_missing"), ("nobody", "invalid_api_key")):
            headers = {"authorization": f"Bearer {key}"}
            status, body = fetch(f"{running.url}/admin/logins", headers=headers, body=wanted)
            assert (status, body["error"]["code"]) == (401 if key == "nobody" else 403, code)
        with phone(playwright, "chromium") as browser:
            page = new_page(browser, "chromium")
            open_link(page, begin(running, **wanted))
            page.click("#keys")
            page.keyboard.type("grace")
            page.keyboard.press("Tab")
            page.keyboard.type(PASSWORDS["grace"])
            page.keyboard.press("Enter")
            page.wait_for_selector("body[data-phase=over]")
            with page.expect_download() as started:
                page.click("#download")
            saved = tmp_path / started.value.suggested_filename
            started.value.save_as(saved)
        assert saved.name == "grace.json"
        summary = ProfileSummary.of(parse_document(saved.read_bytes()))
        assert len(summary.cookies) == 1
        assert "grace" not in running.children()

        # It is a profile like any other.
        saved.rename(profiles / "grace.json")
        assert fetch(f"{running.url}/admin/reload", headers=operator, body={})[0] == 200
        running.wait_for(grace="READY")
