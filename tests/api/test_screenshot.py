"""The child's `/screenshot`: who gets it, and what stands in its place when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from api_utils.settings import ChildSettings
from browser.errors import BrowserError, BrowserLost, NotStarted, PageBroken, ScreenshotTimeout
from contract.keys import KeyStore
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage
from tests.support import png

KEY = {"authorization": "Bearer the-key"}
PICTURE = png.make(4, 3)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.txt"
    path.write_text("the-key role=view\nplain\n")
    return path


async def test_a_key_holder_gets_the_picture_and_no_cache_keeps_it(serve: Serve, key_file: Path) -> None:
    async with serve(ScriptedPage(picture=PICTURE), key_file=key_file) as client:
        response = await client.get("/screenshot", headers=KEY)
        assert (response.status, await response.read()) == (200, PICTURE)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "no-store"


async def test_nobody_else_gets_it(serve: Serve, key_file: Path) -> None:
    async with serve(ScriptedPage(picture=PICTURE), key_file=key_file) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}):
            response = await client.get("/screenshot", headers=headers)
            assert response.status == 401
            assert PICTURE not in await response.read()


async def test_without_keys_only_the_coordinator_gets_it(serve: Serve) -> None:
    settings = ChildSettings(tabfleet_control_token="the-token")
    async with serve(ScriptedPage(picture=PICTURE), settings=settings) as client:
        refused = await client.get("/screenshot", headers=KEY)
        assert refused.status == 403
        assert (await refused.json())["error"]["code"] == "admin_off"
        assert (await client.get("/screenshot", headers={"x-tabfleet-token": "the-token"})).status == 200


async def test_a_callers_key_is_no_viewers(serve: Serve, key_file: Path) -> None:
    async with serve(ScriptedPage(picture=PICTURE), key_file=key_file) as client:
        response = await client.get("/screenshot", headers={"x-api-key": "plain"})
        assert (response.status, (await response.json())["error"]["code"]) == (403, "role_missing")
        assert (await client.get("/v1/models", headers={"x-api-key": "plain"})).status == 200


async def test_a_coordinators_child_shows_its_page_to_the_coordinator_only(
    serve: Serve, key_file: Path, tmp_path: Path
) -> None:
    handed_on = tmp_path / "handed-on"
    handed_on.write_text(KeyStore.from_file(key_file).to_text())
    settings = ChildSettings(tabfleet_control_token="the-token")
    async with serve(ScriptedPage(picture=PICTURE), key_file=handed_on, settings=settings) as client:
        response = await client.get("/screenshot", headers=KEY)
        assert (response.status, (await response.json())["error"]["code"]) == (403, "admin_off")
        assert (await client.get("/screenshot", headers={"x-tabfleet-token": "the-token"})).status == 200
        assert (await client.get("/v1/models", headers=KEY)).status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotStarted("the page is not up"), 503),
        (BrowserLost("the browser died"), 502),
        (PageBroken("the page could not be pictured"), 502),
        (ScreenshotTimeout("no picture within 10 s"), 504),
    ],
)
async def test_why_there_is_no_picture(serve: Serve, key_file: Path, error: BrowserError, status: int) -> None:
    async with serve(ScriptedPage(picture=error), key_file=key_file) as client:
        response = await client.get("/screenshot", headers=KEY)
        assert response.status == status
        body = await response.json()
    assert (body["error"]["code"], body["error"]["message"]) == (error.reason, str(error))
