"""Calls of scripts in web pages: allowed for the origins that the operator names, and for no others."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from coordinator.errors import SettingsError
from coordinator.flags import load_settings
from tests.coordinator.proxy.proxied import KEY, Conversation, chat, scripted

PAGE = "https://app.example.com"
ASKS = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
KEYED = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


async def answer_ok(conversation: Conversation) -> None:
    await conversation.whole(b'{"ok":true}')


@pytest.mark.parametrize("origins", [(PAGE,), ("http://other.test", PAGE), ("*",)])
async def test_a_page_that_was_named_may_call(tmp_path: Path, origins: tuple[str, ...]) -> None:
    async with scripted(tmp_path, answer_ok, origins=origins) as api, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{api.port}/v1/chat/completions"
        async with http.options(url, headers=ASKS) as preflight:
            assert preflight.status == 200
            assert preflight.headers["access-control-allow-origin"] in (PAGE, "*")
            assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        async with http.post(url, data=chat(), headers={**KEYED, "origin": PAGE}) as answer:
            assert (answer.status, await answer.text()) == (200, '{"ok":true}')
            assert "idempotent-replayed" in answer.headers["access-control-expose-headers"]
            assert answer.headers["access-control-allow-origin"] in (PAGE, "*")
        async with http.post(url, data=chat(), headers={"origin": PAGE}) as refused:
            assert refused.status == 401
            assert refused.headers["access-control-allow-origin"] in (PAGE, "*"), "the page is to read why"


@pytest.mark.parametrize("origins", [(), ("https://other.test",), (f"{PAGE}:8443",)])
async def test_a_page_that_was_not_named_may_not(tmp_path: Path, origins: tuple[str, ...]) -> None:
    async with scripted(tmp_path, answer_ok, origins=origins) as api, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{api.port}/v1/chat/completions"
        async with http.options(url, headers=ASKS) as preflight:
            assert preflight.status >= 400
            assert "access-control-allow-origin" not in preflight.headers
        async with http.post(url, data=chat(), headers={**KEYED, "origin": PAGE}) as answer:
            assert "access-control-allow-origin" not in answer.headers


async def test_only_the_api_itself_is_opened(tmp_path: Path) -> None:
    async with scripted(tmp_path, answer_ok, origins=("*",)) as api, aiohttp.ClientSession() as http:
        for path in ("/ready", "/metrics", "/admin/reload"):
            async with http.options(f"http://127.0.0.1:{api.port}{path}", headers=ASKS) as preflight:
                assert "access-control-allow-origin" not in preflight.headers


@pytest.mark.parametrize("text", ["app.example.com", "https://app.example.com/", "ftp://a", "https://a b", "null"])
def test_what_is_no_origin_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--cors-allowed-origins.*such as https://app\.example\.com"):
        load_settings(["--cors-allowed-origins", text])
