"""Login by cookie and by token, and the end of sessions."""

from __future__ import annotations

import aiohttp
import pytest

from demo.accounts import Sessions, check_password
from demo.site import serve
from tests.demo.conftest import NewVisitor
from tests.demo.visitor import Visitor


async def test_login_sets_a_cookie_that_scripts_cannot_read(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    response = await visitor.log_in()
    assert (response.status, response.headers["Location"]) == (303, "/chat")
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Max-Age=604800" in cookie


async def test_chat_page_names_the_account(ada: Visitor) -> None:
    response = await ada.get("/chat")
    assert response.status == 200
    assert 'data-account="ada"' in await response.text()


async def test_wrong_password_shows_the_form_again(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    response = await visitor.log_in("<ada>", "wrong")
    page = await response.text()
    assert response.status == 401
    assert "Wrong username or password." in page
    assert 'value="&lt;ada&gt;"' in page


async def test_logged_out_visitor_is_sent_to_the_form_and_back(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    response = await visitor.get("/chat?transport=ws")
    assert response.status == 302
    login = response.headers["Location"]
    form = {"username": "user12", "password": "demo12"}
    back = await visitor.http.post(visitor.site.url + login, data=form, allow_redirects=False)
    assert back.headers["Location"] == "/chat?transport=ws"


@pytest.mark.parametrize("target", ["//elsewhere.example", "https://elsewhere.example", "/chat/../../x", "/chatter"])
async def test_login_never_leads_elsewhere(new_visitor: NewVisitor, target: str) -> None:
    visitor = await new_visitor()
    form = {"username": "ada", "password": "lovelace"}
    back = await visitor.http.post(
        f"{visitor.site.url}/login", params={"next": target}, data=form, allow_redirects=False
    )
    assert back.headers["Location"] == "/chat"


async def test_token_login_works_by_header_and_sets_no_cookie(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    await visitor.log_in_by_token("grace", "hopper")
    me = await visitor.get("/api/me")
    assert (await me.json())["account"] == "grace"
    assert not list(visitor.http.cookie_jar)
    assert (await visitor.get("/chat")).status == 200
    visitor.headers.clear()
    assert (await visitor.get("/api/me")).status == 401


async def test_cookie_token_is_no_bearer_token(ada: Visitor) -> None:
    (cookie,) = ada.http.cookie_jar
    headers = {"Authorization": f"Bearer {cookie.value}"}
    async with ada.http.get(f"{ada.site.url}/api/me", headers=headers) as response:
        assert response.status == 401


@pytest.mark.parametrize("path", ["/logout", "/token/logout"])
async def test_logout_ends_the_session_on_the_server(ada: Visitor, path: str) -> None:
    (cookie,) = ada.http.cookie_jar
    await ada.post(path, {})
    ada.http.cookie_jar.update_cookies({cookie.key: cookie.value})
    assert (await ada.get("/api/me")).status == 401


async def test_site_without_a_control_token_has_no_control() -> None:
    async with serve() as site, aiohttp.ClientSession() as http, http.get(f"{site.url}/control/ledger") as response:
        assert response.status == 404


@pytest.mark.parametrize("headers", [{}, {"X-Demo-Control": "wrong"}])
async def test_control_needs_its_token(ada: Visitor, headers: dict[str, str]) -> None:
    for method, path in [("GET", "ledger"), ("GET", "faults"), ("POST", "faults"), ("DELETE", "faults")]:
        async with ada.http.request(method, f"{ada.site.url}/control/{path}", headers=headers) as response:
            assert response.status == 401


@pytest.mark.parametrize(
    ("username", "password", "right"),
    [
        ("ada", "lovelace", True),
        ("user1", "demo1", True),
        ("user123456", "demo123456", True),
        ("ada", "hopper", False),
        ("user0", "demo0", False),
        ("user01", "demo01", False),
        ("nobody", "", False),
        ("ada", "lovelacé", False),
    ],
)
def test_passwords(username: str, password: str, right: bool) -> None:
    assert check_password(username, password) is right


def test_session_expires_by_the_clock() -> None:
    now = 1000.0
    sessions = Sessions(ttl_s=60, clock=lambda: now)
    session = sessions.open("ada", "cookie")
    now = 1059.9
    assert sessions.find(session.token, "cookie") is session
    now = 1060.0
    assert sessions.find(session.token, "cookie") is None
