"""Login with a password and a one-time code."""

from __future__ import annotations

import re

from demo.one_time_code import TRIES
from tests.demo.conftest import NewVisitor
from tests.demo.visitor import Visitor

ADA = {"username": "ada", "password": "lovelace"}


async def asked(visitor: Visitor) -> str:
    """Enter the password, and return the ticket that the code is to come with."""
    response = await visitor.http.post(f"{visitor.site.url}/code/login", data=ADA)
    found = re.search(r'name="ticket" value="([^"]+)"', await response.text())
    assert found
    return found[1]


async def verify(visitor: Visitor, ticket: str, code: str) -> int:
    form = {"ticket": ticket, "code": code}
    response = await visitor.http.post(f"{visitor.site.url}/code/verify", data=form, allow_redirects=False)
    return response.status


async def sent_code(visitor: Visitor) -> str:
    return await (await visitor.get("/code/inbox/ada")).text()


async def test_the_password_alone_is_no_login(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    await asked(visitor)
    assert (await visitor.get("/code/chat")).headers["Location"] == "/code/login"


async def test_the_code_logs_in_once(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    ticket, code = await asked(visitor), await sent_code(visitor)
    assert await verify(visitor, ticket, code) == 303
    assert (await visitor.get("/code/chat")).headers["Location"] == "/chat"
    assert await verify(await new_visitor(), ticket, code) == 401


async def test_a_code_cannot_be_guessed(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    ticket, code = await asked(visitor), await sent_code(visitor)
    wrong = "000000" if code != "000000" else "111111"
    assert [await verify(visitor, ticket, wrong) for _ in range(TRIES)] == [401] * TRIES
    assert await verify(visitor, ticket, code) == 401


async def test_a_wrong_password_sends_no_code(new_visitor: NewVisitor) -> None:
    visitor = await new_visitor()
    response = await visitor.http.post(f"{visitor.site.url}/code/login", data=ADA | {"password": "wrong"})
    assert response.status == 401
    assert await sent_code(visitor) == ""
