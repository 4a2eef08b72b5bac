"""Who may do a login from anywhere, how long, and what is left of it; the child is a process that only sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from contract.api_error import ApiError
from contract.processes import ProcessIdentity
from contract.remote_login import LoginPhase
from coordinator.api import _show_error
from coordinator.errors import ActionRefused
from coordinator.local.launcher import LocalLauncher
from coordinator.logins.pages import COOKIE, LoginPages
from coordinator.logins.remote import Login, LoginLimits, NewLogin, RemoteLogins, audit_name
from tests.support.waiting import HANG_LIMIT_S, eventually

SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")
ENDS = (sys.executable, "-c", "raise SystemExit(74)")
HOST = "fleet.example"
OURS = {"origin": f"https://{HOST}", "sec-fetch-site": "same-origin"}


@dataclass
class Saved:
    """A store that keeps what it is given."""

    logins: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def check(self, profile_name: str) -> None:
        pass

    def save(self, profile_name: str, document: Mapping[str, Any]) -> str:
        self.logins[profile_name] = document
        return "kept"


@contextlib.asynccontextmanager
async def remote_logins(
    tmp_path: Path, *, program: tuple[str, ...] = SLEEPS, **limits: Any
) -> AsyncIterator[RemoteLogins]:
    launcher = LocalLauncher(tmp_path, program=program)
    launcher.open()
    logins = RemoteLogins(
        launcher=launcher,
        saver=Saved(),
        profiles=lambda: ["ada"],
        site="/anywhere/demo.toml",
        limits=LoginLimits(**limits),
    )
    try:
        yield logins
    finally:
        await logins.close()
        assert not launcher.own_pids
        await launcher.close()


@contextlib.asynccontextmanager
async def person(logins: RemoteLogins) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's requests, as the coordinator's application gets them."""
    pages = Starlette(
        routes=[Mount("/login", LoginPages(logins).router)],
        exception_handlers={ApiError: _show_error},
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(pages), base_url=f"https://{HOST}") as client:
        yield client


async def begin(logins: RemoteLogins, profile: str = "ada", **more: Any) -> tuple[str, Login]:
    """Return the link and its login."""
    link = (await logins.begin(NewLogin(profile=profile, **more), "tests"))["link"]
    login = logins.find(link.removeprefix("/login/"))
    assert login
    return link, login


async def ended(login: Login) -> None:
    await asyncio.wait_for(login.gone.wait(), HANG_LIMIT_S)


async def opened(client: httpx.AsyncClient, link: str) -> httpx.Response:
    return await client.post(f"{link}/open", headers=OURS)


async def test_a_link_works_once(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins, person(logins) as first, person(logins) as second:
        link, _ = await begin(logins)
        assert (await first.get(link)).status_code == 200  # a page that is only looked at uses nothing up
        assert (await opened(first, link)).status_code == 204
        assert (await opened(second, link)).status_code == 410
        assert (await opened(first, link)).status_code == 410  # the first one has its cookie, and needs no link
        assert (await first.post(f"{link}/done", headers=OURS)).status_code == 204
        for path in ("input", "done", "cancel"):
            assert (await second.post(f"{link}/{path}", headers=OURS)).status_code == 410
        for path in ("picture", "profile"):
            assert (await second.get(f"{link}/{path}")).status_code == 410
        forged = {"cookie": f"{COOKIE}=x"}
        assert (await second.get(f"{link}/picture", headers=forged)).status_code == 410


async def test_the_cookie_is_for_this_login_and_this_page_alone(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins, person(logins) as client:
        link, _ = await begin(logins)
        assert (await client.get(f"{link}/picture")).status_code == 401
        cookie = (await opened(client, link)).headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=strict", "Secure", f"Path={link};"):
            assert part in f"{cookie};"
        assert link.removeprefix("/login/") not in cookie.partition(";")[0]


async def test_without_tls_the_cookie_comes_back_all_the_same(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins, person(logins) as client:
        link, _ = await begin(logins)
        response = await client.post(f"{link}/open", headers={"origin": f"http://{HOST}"})
        assert "Secure" not in response.headers["set-cookie"]


FOREIGN: Mapping[str, dict[str, str]] = {
    "none": {},
    "elsewhere": {"origin": "https://elsewhere.example"},
    "another port": {"origin": f"https://{HOST}:8443"},
    "a name that begins alike": {"origin": f"https://{HOST}.elsewhere.example"},
    "null": {"origin": "null"},
    "no address at all": {"origin": "http://["},
    "no web page": {"origin": f"file://{HOST}"},
    "cross-site": OURS | {"sec-fetch-site": "cross-site"},
    "same-site": OURS | {"sec-fetch-site": "same-site"},
    "another host": OURS | {"host": "elsewhere.example"},
}


@pytest.mark.parametrize("headers", FOREIGN.values(), ids=FOREIGN)
async def test_other_pages_cannot_post(tmp_path: Path, headers: dict[str, str]) -> None:
    async with remote_logins(tmp_path) as logins, person(logins) as client:
        link, login = await begin(logins)
        assert (await client.post(f"{link}/open", headers=headers)).status_code == 403
        assert login.cookie is None
        await opened(client, link)
        for path in ("input", "done", "cancel", "open"):
            assert (await client.post(f"{link}/{path}", headers=headers)).status_code == 403
        assert not login.told.is_set()


async def test_other_sites_cannot_have_the_picture_shown(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins, person(logins) as client:
        link, _ = await begin(logins)
        await opened(client, link)
        assert (await client.get(f"{link}/picture", headers={"sec-fetch-site": "cross-site"})).status_code == 403


async def test_nothing_of_the_page_comes_from_elsewhere(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins, person(logins) as client:
        link, _ = await begin(logins)
        for path in (link, "/login/assets/login.js", "/login/assets/login.css"):
            response = await client.get(path)
            assert response.status_code == 200
            assert response.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
            assert response.headers["cache-control"] == "no-store"
            assert "http://" not in response.text
            assert "https://" not in response.text
        page = (await client.get(link)).text
        assert "style=" not in page
        assert "<script>" not in page
        assert (await client.get("/login/assets/login.html")).status_code == 404


async def test_an_unopened_link_ends(tmp_path: Path) -> None:
    async with remote_logins(tmp_path, link_s=0.2) as logins, person(logins) as client:
        link, login = await begin(logins)
        await ended(login)
        assert login.state.phase is LoginPhase.EXPIRED
        assert (await opened(client, link)).status_code == 410


@pytest.mark.parametrize("limit", ["idle_s", "total_s"])
async def test_an_opened_login_ends(tmp_path: Path, limit: str) -> None:
    given: dict[str, Any] = {limit: 0.2}
    async with remote_logins(tmp_path, **given) as logins, person(logins) as client:
        link, login = await begin(logins)
        if limit == "idle_s":
            await asyncio.sleep(0.05)  # its end is waited for before the link is opened
        assert (await opened(client, link)).status_code == 204
        await ended(login)
        assert login.state.phase is LoginPhase.EXPIRED
        last = await client.get(f"{link}/picture")
        assert (last.status_code, '"expired"' in last.headers["x-login-state"]) == (204, True)


async def test_who_looks_is_not_idle(tmp_path: Path) -> None:
    async with remote_logins(tmp_path, idle_s=HANG_LIMIT_S) as logins, person(logins) as client:
        link, login = await begin(logins)
        await opened(client, link)
        before = login.last_seen
        await client.get(f"{link}/picture")
        assert login.last_seen > before


async def test_cancel_ends_the_browser(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins, person(logins) as client:
        link, login = await begin(logins)
        await opened(client, link)
        assert (await client.post(f"{link}/cancel", headers=OURS)).status_code == 204
        await ended(login)
        assert login.state.phase is LoginPhase.CANCELLED
        assert not list(tmp_path.glob("tabfleet-run-*/children/*"))


async def test_a_browser_that_ends_is_told(tmp_path: Path) -> None:
    async with remote_logins(tmp_path, program=ENDS) as logins:
        _, login = await begin(logins)
        await ended(login)
        assert login.state.phase is LoginPhase.FAILED
        assert "no browser" in (login.state.detail or "")


async def test_few_at_a_time(tmp_path: Path) -> None:
    async with remote_logins(tmp_path, at_once=2) as logins:
        first = (await begin(logins, "new-1"))[1]
        await begin(logins, "new-2")
        with pytest.raises(ActionRefused, match="2 logins are open"):
            await begin(logins, "new-3")
        first.end(LoginPhase.CANCELLED, "enough")
        await ended(first)
        await begin(logins, "new-3")


async def test_a_new_link_takes_the_place_of_one_that_nobody_opened(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins, person(logins) as client:
        old_link, old = await begin(logins)
        link, _ = await begin(logins)
        assert old.gone.is_set()
        assert (await opened(client, old_link)).status_code == 410
        assert (await opened(client, link)).status_code == 204
        with pytest.raises(ActionRefused, match="is logging in"):
            await begin(logins)


async def test_nothing_is_left_after_the_end(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins:
        await begin(logins)
        (pid,) = logins._launcher.own_pids  # type: ignore[attr-defined]
        await logins.close()
        assert ProcessIdentity.of(pid) is None
        with pytest.raises(ActionRefused, match="shutting down"):
            await begin(logins)


WRONG: Mapping[str, tuple[dict[str, Any], str]] = {
    "another site": ({"profile": "ada", "site": "other"}, "site"),
    "a path": ({"profile": "ada", "site": "/etc/passwd"}, "site"),
    "a name that leads elsewhere": ({"profile": "../ada"}, "profile"),
    "a hidden name": ({"profile": ".ada"}, "profile"),
    "nothing to renew": ({"profile": "new", "save": ["store"]}, "save"),
    "nothing to renew, among others": ({"profile": "new", "save": ["download", "store"]}, "save"),
}


@pytest.mark.parametrize(("wanted", "field_name"), WRONG.values(), ids=WRONG)
async def test_what_cannot_be_done_is_refused_before_a_browser_starts(
    tmp_path: Path, wanted: dict[str, Any], field_name: str
) -> None:
    async with remote_logins(tmp_path) as logins:
        with pytest.raises(ApiError) as refused:
            await logins.begin(NewLogin(**wanted), "tests")
        assert (refused.value.status, refused.value.param) == (400, field_name)
        assert not logins._launcher.own_pids  # type: ignore[attr-defined]


async def test_where_it_is_saved_if_nothing_is_said(tmp_path: Path) -> None:
    async with remote_logins(tmp_path) as logins:
        assert (await begin(logins, "ada"))[1].save == ("store",)
        assert (await begin(logins, "new", site="demo"))[1].save == ("download",)


BAD_LOGINS: Mapping[str, bytes] = {
    "no JSON": b"{",
    "no login": b"[]",
    "a number": b'{"cookies": [{"name": 1}], "origins": []}',
}


@pytest.mark.parametrize("document", BAD_LOGINS.values(), ids=BAD_LOGINS)
async def test_no_login_that_a_start_could_not_use_is_saved(tmp_path: Path, document: bytes) -> None:
    async with remote_logins(tmp_path) as logins:
        _, login = await begin(logins)
        logins._save(login, document)
        assert login.state.phase is LoginPhase.FAILED
        assert logins._saver.logins == {}  # type: ignore[attr-defined]


async def test_the_download_is_what_was_saved(tmp_path: Path) -> None:
    document = b'{"cookies": [], "origins": []}'
    async with remote_logins(tmp_path) as logins, person(logins) as client:
        link, login = await begin(logins, "Zo\u00eb's".replace("'", ""), save=["download"])
        await opened(client, link)
        assert (await client.get(f"{link}/profile")).status_code == 404
        logins._save(login, document)
        response = await client.get(f"{link}/profile")
        assert response.json() == {"cookies": [], "origins": []}
        assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''Zo%C3%ABs.json"
        assert response.headers["cache-control"] == "no-store"
        await eventually(login.gone.is_set)
        login.deadline = 0.0  # long ago
        assert (await client.get(f"{link}/profile")).status_code == 410


def test_an_audit_line_names_a_key_without_showing_it() -> None:
    assert audit_name("test-key") == "sha256:62af8704"
    assert audit_name("test-key") != audit_name("test-kez")
