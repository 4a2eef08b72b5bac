"""Asking a page, and holding its answer against the demo site's ledger."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from browser.page.chat_page import ChatPage
    from demo.ledger import Entry
    from demo.site import DemoSite


async def ask(page: ChatPage, prompt: str, model: str = "demo-small", request_id: str = "a") -> str:
    return "".join([piece async for piece in page.ask(request_id, prompt, model)])


def last(demo: DemoSite) -> Entry:
    return demo.ledger.entries()[-1]


def check_answer(answer: str, prompt: str, entry: Entry) -> None:
    """An answer must be this submission's own: the site's token is in it, and its prompt's digest."""
    assert entry.prompt == prompt
    assert answer == "".join(entry.pieces)
    assert f"token:{entry.token}" in answer
    assert f"sha256:{hashlib.sha256(prompt.encode()).hexdigest()}" in answer
