"""The routes beside `/v1`: health, metrics, the operator's actions, and who may use them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import structlog
from starlette.routing import Route

from contract.errors import TabfleetError
from contract.keys import KeyStore
from coordinator.api import build_api
from coordinator.errors import ActionRefused, NoPage, PageFailed, PageSilent, ProfileBackendError, UnknownChild
from coordinator.proxy.admission import Access
from coordinator.supervision.supervisor import Reconciled
from tests.support import png

KEYS = "the-key role=operate\nwatcher role=view\ncaller role=call\nplain\n"
KEY = {"authorization": "Bearer the-key"}
PICTURE = png.make(4, 3)
SCREENSHOT = "/admin/children/ada/screenshot"
OPEN_ROUTES = ("/live", "/ready", "/health")
VIEWS = ("/admin/children/ada", SCREENSHOT)
ADMIN_ROUTES = ("/admin/reload", "/admin/children/a/restart", "/admin/children/a/reset", "/admin/children/a/drain")


@dataclass
class ShownFleet:
    """A fleet that shows what the test sets, and records the actions on it."""

    ready: bool = True
    error: TabfleetError | None = None
    told: list[str] = field(default_factory=list)

    def view(self) -> dict[str, Any]:
        children = [{"name": "a", "state": "READY", "reason": None}]
        return {"status": "ready" if self.ready else "unready", "children": children, "unhealthy": []}

    async def reload(self) -> Reconciled:
        self._tell("reload")
        return Reconciled(("new",), (), ("old",))

    @property
    def supervisor(self) -> Any:
        return self

    @property
    def logins(self) -> Any:
        raise NotImplementedError

    def restart(self, name: str) -> None:
        self._tell(f"restart {name}")

    def reset(self, name: str) -> None:
        self._tell(f"reset {name}")

    def drain(self, name: str) -> None:
        self._tell(f"drain {name}")

    def child(self, _: str) -> Any:
        return SimpleNamespace(status=lambda: SimpleNamespace(private=dict), last_lines=list)

    async def screenshot(self, name: str) -> bytes:
        self._tell(f"screenshot {name}")
        return PICTURE

    def _tell(self, what: str) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(what)


def keys(tmp_path: Path, text: str) -> KeyStore:
    (tmp_path / "key.txt").write_text(text)
    return KeyStore.from_file(tmp_path / "key.txt")


@pytest.fixture
def fleet() -> ShownFleet:
    return ShownFleet()


@pytest.fixture
async def client(fleet: ShownFleet, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with caller(fleet, Access(keys(tmp_path, KEYS))) as one:
        yield one


def caller(fleet: ShownFleet, access: Access, *, metrics_public: bool = False) -> httpx.AsyncClient:
    app = build_api(fleet, access, lambda: b"tabfleet_ready 1.0\n", metrics_public=metrics_public)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


@pytest.mark.parametrize("ready", [True, False])
async def test_health_needs_no_key_and_follows_readiness(
    client: httpx.AsyncClient, fleet: ShownFleet, ready: bool
) -> None:
    fleet.ready = ready
    assert [(await client.get(route)).status_code for route in OPEN_ROUTES] == [200, *[200 if ready else 503] * 2]
    assert (await client.get("/ready")).json() == fleet.view()


@pytest.mark.parametrize("route", OPEN_ROUTES)
async def test_health_can_be_asked_without_a_body(client: httpx.AsyncClient, route: str) -> None:
    assert (await client.head(route)).status_code == 200


async def test_health_is_deprecated_and_logged_once(client: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logged:
        answers = [await client.get("/health") for _ in range(3)]
    for answer in answers:
        assert answer.headers["deprecation"].startswith("@")
        assert 'rel="successor-version"' in answer.headers["link"]
        assert answer.json() == (await client.get("/ready")).json()
    assert [entry["event"] for entry in logged] == ["deprecated_route"]


async def test_metrics_need_a_key_unless_they_are_public(
    client: httpx.AsyncClient, fleet: ShownFleet, tmp_path: Path
) -> None:
    assert (await client.get("/metrics")).status_code == 401
    shown = await client.get("/metrics", headers=KEY)
    assert shown.headers["content-type"].startswith("text/plain")
    assert shown.text == "tabfleet_ready 1.0\n"
    async with caller(fleet, Access(keys(tmp_path, "the-key\n")), metrics_public=True) as public:
        assert (await public.get("/metrics")).status_code == 200


@pytest.mark.parametrize("route", ADMIN_ROUTES)
async def test_admin_routes_need_a_key(client: httpx.AsyncClient, fleet: ShownFleet, route: str) -> None:
    refused = await client.post(route, headers={"authorization": "Bearer wrong"})
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert (await client.post(route)).status_code == 401
    assert (await client.get(route, headers=KEY)).status_code == 405
    assert fleet.told == []


@pytest.mark.parametrize("key", ["watcher", "caller", "plain"])
@pytest.mark.parametrize("route", ADMIN_ROUTES)
async def test_only_an_operators_key_acts_on_the_fleet(
    client: httpx.AsyncClient, fleet: ShownFleet, route: str, key: str
) -> None:
    refused = await client.post(route, headers={"x-api-key": key})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "role_missing")
    assert "role=operate" in refused.json()["error"]["message"]
    assert fleet.told == []
    assert (await client.post(route, headers=KEY)).is_success
    assert len(fleet.told) == 1


@pytest.mark.parametrize("key", ["caller", "plain"])
async def test_only_a_viewers_or_an_operators_key_sees_what_pages_show(
    client: httpx.AsyncClient, fleet: ShownFleet, key: str
) -> None:
    for route in VIEWS:
        refused = await client.get(route, headers={"x-api-key": key})
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "role_missing")
        assert "role=view" in refused.json()["error"]["message"]
    assert fleet.told == []
    for allowed in ("watcher", "the-key"):
        assert [(await client.get(route, headers={"x-api-key": allowed})).status_code for route in VIEWS] == [200, 200]


@pytest.mark.parametrize(
    ("text", "code_of_views"), [("the-key\nother\n", "admin_off"), ("the-key\nother role=view\n", "role_missing")]
)
async def test_admin_routes_are_off_where_no_key_has_the_role(
    fleet: ShownFleet, tmp_path: Path, text: str, code_of_views: str
) -> None:
    async with caller(fleet, Access(keys(tmp_path, text))) as one:
        for route in ADMIN_ROUTES:
            refused = await one.post(route, headers=KEY)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_off")
            assert "no API key has role=operate" in refused.json()["error"]["message"]
            assert (await one.post(route)).status_code == 401, "a stranger learns nothing of it"
        for route in VIEWS:
            refused = await one.get(route, headers=KEY)
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, code_of_views)
        assert (await one.get("/metrics", headers=KEY)).status_code == 200
    assert fleet.told == []


@pytest.mark.parametrize("route", ADMIN_ROUTES)
async def test_admin_routes_are_off_without_keys(fleet: ShownFleet, tmp_path: Path, route: str) -> None:
    async with caller(fleet, Access(keys(tmp_path, "# none\n"))) as one:
        refused = await one.post(route, headers=KEY)
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "admin_off"
    assert fleet.told == []


async def test_admin_routes_are_unavailable_before_the_keys_are_known(fleet: ShownFleet) -> None:
    async with caller(fleet, Access()) as one:
        assert (await one.post("/admin/reload", headers=KEY)).status_code == 503


async def test_the_operator_can_act_on_a_child_by_name(client: httpx.AsyncClient, fleet: ShownFleet) -> None:
    for action in ("restart", "reset", "drain"):
        assert (await client.post(f"/admin/children/ada/{action}", headers=KEY)).status_code == 202
    answer = await client.post("/admin/reload", headers=KEY)
    assert answer.json() == {"added": ["new"], "replaced": [], "removed": ["old"]}
    assert fleet.told == ["restart ada", "reset ada", "drain ada", "reload"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnknownChild("nobody"), 404, "unknown_child"),
        (ActionRefused("there is nothing to drain"), 409, "action_refused"),
        (ProfileBackendError("the bucket is gone"), 502, "reload_failed"),
    ],
)
async def test_an_action_that_fails_says_why(
    client: httpx.AsyncClient, fleet: ShownFleet, error: TabfleetError, status: int, code: str
) -> None:
    fleet.error = error
    answer = await client.post("/admin/reload", headers=KEY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"] == str(error)


async def test_a_screenshot_needs_a_key_and_is_not_cached(
    client: httpx.AsyncClient, fleet: ShownFleet, tmp_path: Path
) -> None:
    assert (await client.get(SCREENSHOT)).status_code == 401
    async with caller(fleet, Access(keys(tmp_path, "# none\n"))) as one:
        assert (await one.get(SCREENSHOT, headers=KEY)).status_code == 403
    assert fleet.told == []
    shown = await client.get(SCREENSHOT, headers=KEY)
    assert (shown.status_code, shown.content) == (200, PICTURE)
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["cache-control"] == "no-store"
    assert fleet.told == ["screenshot ada"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnknownChild("ada"), 404, "unknown_child"),
        (NoPage("it has no page now"), 503, "no_page"),
        (PageSilent("it may hang"), 504, "screenshot_timeout"),
        (PageFailed("HTTP 502"), 502, "page_broken"),
    ],
)
async def test_a_screenshot_that_fails_says_why(
    client: httpx.AsyncClient, fleet: ShownFleet, error: TabfleetError, status: int, code: str
) -> None:
    fleet.error = error
    answer = await client.get(SCREENSHOT, headers=KEY)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_every_route_but_those_of_health_needs_a_key(fleet: ShownFleet, tmp_path: Path) -> None:
    access = Access(keys(tmp_path, KEYS))
    routes = [route for route in build_api(fleet, access, bytes).routes if isinstance(route, Route)]
    assert {route.path for route in routes} > {*OPEN_ROUTES, "/metrics"}
    async with caller(fleet, access) as client:
        for route in routes:
            for method in route.methods or ():
                status = (await client.request(method, route.path.format(name="ada"))).status_code
                assert status == (200 if route.path in OPEN_ROUTES else 401), (method, route.path)
    assert fleet.told == []


@pytest.mark.parametrize(
    ("method", "route", "status", "allow"),
    [
        ("GET", "/nowhere", 404, None),
        ("GET", "/admin/nowhere", 404, None),
        ("POST", "/admin/children/ada/nothing", 404, None),
        ("POST", "/admin/reload/", 404, None),
        ("GET", "/admin/reload", 405, {"POST"}),
        ("HEAD", "/metrics", 405, {"GET"}),
        ("HEAD", "/admin/children/ada", 405, {"GET"}),
        ("DELETE", "/admin/children/ada", 405, {"GET"}),
        ("POST", "/live", 405, {"GET", "HEAD"}),
    ],
)
async def test_what_no_route_takes(
    client: httpx.AsyncClient, method: str, route: str, status: int, allow: set[str] | None
) -> None:
    answer = await client.request(method, route)
    assert answer.status_code == status
    if method != "HEAD":
        error = answer.json()["error"]
        assert error["code"] == ("not_found" if status == 404 else "method_not_allowed")
        assert all(name in error["message"] for name in allow or {"base_url", "/v1"})
    assert answer.headers["content-type"] == "application/json"
    assert (set(answer.headers["allow"].split(", ")) if "allow" in answer.headers else None) == allow


async def test_key_holders_get_the_openapi_document(client: httpx.AsyncClient) -> None:
    answer = await client.get("/openapi.json", headers=KEY)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert {"/v1/chat/completions", "/admin/reload", "/openapi.json"} <= set(answer.json()["paths"])


@pytest.mark.parametrize("route", ["/docs", "/redoc", "/", "/admin", "/ready/"])
async def test_there_is_nothing_else(client: httpx.AsyncClient, route: str) -> None:
    answer = await client.get(route)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
