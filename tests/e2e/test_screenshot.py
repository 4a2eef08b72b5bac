"""Screenshots of the children's pages, through the coordinator."""

from __future__ import annotations

from tests.e2e.fleet import Fleet, fetch
from tests.support import png


def test_a_screenshot_of_each_page(two: Fleet) -> None:
    for name in ("ada", "grace"):
        status, headers, body = two.screenshot(name)
        assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/png", "no-store")
        picture = png.decode(body)
        assert (picture.width, picture.height) == (1280, 720)
        assert picture.variety > 10


def test_refused_screenshots(two: Fleet) -> None:
    assert two.screenshot("nobody")[0] == 404
    assert two.screenshot("ada", key="wrong")[0] == 401
    status, error = fetch(f"{two.url}/admin/children/ada/screenshot")
    assert (status, error["error"]["code"]) == (401, "missing_api_key")
