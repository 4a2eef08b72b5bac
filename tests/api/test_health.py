"""What a child says of itself: `/live`, `/ready`, `/health`."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_utils.settings import ChildSettings
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage, unready

REASONS = (
    "starting",
    "browser_lost",
    "login_expired",
    "page_broken",
    "quota",
    "site_unreachable",
    "proxy_unreachable",
    "proxy_refused",
)


async def test_a_ready_child_says_so_and_who_it_is(serve: Serve) -> None:
    settings = ChildSettings(tabfleet_instance_id="a1b2", tabfleet_generation=3)
    async with serve(ScriptedPage(), settings=settings) as client:
        response = await client.get("/ready")
        body = await response.json()
    assert response.status == 200
    assert body["status"] == "ready"
    assert body["reason"] is None
    assert (body["instance_id"], body["generation"]) == ("a1b2", 3)
    assert body["models"] == ["demo-small", "demo/large"]
    assert (body["site"], body["engine"], body["capture"]) == ("demo", "chromium", "network")


@pytest.mark.parametrize("reason", REASONS)
async def test_an_unready_child_gives_its_reason_and_is_live_all_the_same(serve: Serve, reason: str) -> None:
    async with serve(ScriptedPage(state=unready(reason))) as client:
        ready, health, live = (
            await client.get("/ready"),
            await client.get("/health"),
            await client.get("/live"),
        )
        assert (ready.status, health.status, live.status) == (503, 503, 200)
        assert (await ready.json())["reason"] == reason
        legacy = await health.json()
    assert legacy["status"] == "Error"
    assert legacy["details"]["reason"] == reason
    assert legacy["message"] != "ready"


async def test_the_legacy_body_of_a_ready_child(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.get("/health")
        assert (response.status, (await response.json())["status"]) == (200, "OK")


async def test_busy_is_still_ready(serve: Serve) -> None:
    page = ScriptedPage(stalls=True)
    async with serve(page) as client:
        ask = {"model": "demo-small", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with client.post("/v1/chat/completions", json=ask) as answer:
            await answer.content.readany()
            response = await client.get("/ready")
            assert (response.status, (await response.json())["busy"]) == (200, True)


async def test_health_needs_no_key_and_shows_no_secret(serve: Serve, tmp_path: Path) -> None:
    settings = ChildSettings(tabfleet_control_token="canary-control-token")
    (tmp_path / "key.txt").write_text("canary-key\n")
    async with serve(ScriptedPage(), key_file=tmp_path / "key.txt", settings=settings) as client:
        for path in ("/live", "/ready", "/health"):
            response = await client.get(path)
            assert response.status == 200
            assert "canary" not in await response.text()


async def test_a_host_that_is_not_loopback_is_refused(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        for path in ("/ready", "/v1/models", "/nowhere"):
            response = await client.get(path, headers={"host": "attacker.example"})
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (421, "misdirected_request")
            assert "base_url" in error["message"]
            assert "ALLOWED_HOSTS" not in error["message"]  # a child has no such setting
            assert response.headers["x-request-id"]
        for host in ("localhost", "localhost:1", "127.0.0.1", "[::1]:80"):
            assert (await client.get("/ready", headers={"host": host})).status == 200


@pytest.mark.parametrize("path", ["/v1//models", "/models", "/v1/models/", "/v1/v1/models"])
async def test_a_path_that_a_client_has_put_together_wrongly_is_its_route(serve: Serve, path: str) -> None:
    async with serve(ScriptedPage()) as client:
        assert (await (await client.get(path)).json())["object"] == "list"
        response = await client.post(path)
        assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
        assert "GET, HEAD only" in (await response.json())["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/chat", 404),
        ("GET", "/ready/", 404),
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/ready", 405),
    ],
)
async def test_what_no_route_takes_gets_an_error_with_a_request_id(
    serve: Serve, method: str, path: str, status: int
) -> None:
    async with serve(ScriptedPage()) as client:
        response = await client.request(method, path, allow_redirects=False)
        code = {404: "not_found", 405: "method_not_allowed"}[status]
        assert (response.status, (await response.json())["error"]["code"]) == (status, code)
        assert len(response.headers.getall("x-request-id")) == 1


async def test_a_response_keeps_the_id_that_its_route_gave(serve: Serve) -> None:
    async with serve(ScriptedPage()) as client:
        body = {"model": "demo-small", "messages": [{"role": "user", "content": "hi"}]}
        response = await client.post("/v1/chat/completions", json=body, headers={"x-request-id": "mine"})
        assert response.headers.getall("x-request-id") == ["mine"]
