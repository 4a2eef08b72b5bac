"""All of a login's storage is kept over a restart, in real browsers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from browser.page import login, storage
from browser.page.chat_page import ChatPage
from browser.page.login_watch import SessionKeeper
from browser.page.profile import load_profile, state_to_open
from browser.page.site_page import SitePage
from browser.page.storage import as_browser_loads_it, is_of_site
from browser.site.schema import Site
from contract.storage_state.document import MAX_PROFILE_BYTES
from demo.accounts import CARRIED_BY, Kind, LoginKind, Session
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, SharedBrowser, demo_file, tab_of
from tests.browser.profiles import cookie_state, kind_state, login_cookie, write_profile
from tests.support.waiting import HANG_LIMIT_S, eventually

NO_CHECK = 'check = { url = "/api/me", expired_status = [401] }\n|'
"""Tokens of scripts go with the page's own requests only."""

# What is read back is compared as text, for JavaScript alone knows what is what.
PUT = """async () => {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result); request.onerror = () => reject(request.error); });
  const opening = indexedDB.open("kinds", 3);
  opening.onupgradeneeded = () => {
    const store = opening.result.createObjectStore("out of line");
    store.createIndex("by n", ["n", "m"], { unique: true, multiEntry: false });
    opening.result.createObjectStore("in line", { keyPath: ["a", "b"] });
    opening.result.createObjectStore("counted", { autoIncrement: true });
  };
  const database = await done(opening);
  const stores = database.transaction(["out of line", "in line", "counted"], "readwrite");
  const circle = { name: "circle" }; circle.self = circle;
  const values = [0, "", false, null, undefined, NaN, -0, Infinity, 12n, "half \\ud83d", new Date(5), /x/gi, [1, , 3],
    new Uint8Array([1, 255]).buffer, new Float64Array([1.5, -2]), new Uint8Array([9, 8, 7]).subarray(1), circle,
    { n: 1, m: 2, deep: [{ d: new Date(7), big: [1n] }] }];
  values.forEach((value, key) => stores.objectStore("out of line").put(value, key));
  stores.objectStore("out of line").put("by date", new Date(1));
  stores.objectStore("out of line").put("by bytes", new Uint8Array([1, 2]));
  stores.objectStore("out of line").put("by list", [1, "x"]);
  stores.objectStore("out of line").put("by nothing", "");
  stores.objectStore("out of line").put(new Blob(["x"]), "blob");
  stores.objectStore("out of line").put(new Map([[1, 2]]), "map");
  let deep = [];
  for (let number = 0; number < 500; number++) deep = [deep];
  stores.objectStore("out of line").put(deep, "deep");
  const key = await crypto.subtle?.generateKey({ name: "AES-GCM", length: 128 }, false, ["encrypt"]);
  const again = database.transaction(["out of line", "in line", "counted"], "readwrite");
  if (key) again.objectStore("out of line").put(key, "cryptokey");
  again.objectStore("in line").put({ a: 0, b: "", token: "t".repeat(20) });
  again.objectStore("counted").add("first");
  again.objectStore("counted").add("second");
  await new Promise((resolve) => { again.oncomplete = resolve; });
  database.close();
}"""
SHOW = """async () => {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result); request.onerror = () => reject(request.error); });
  const show = (value) => {
    if (Object.is(value, -0)) return "-0";
    if (typeof value === "bigint") return `${value}n`;
    if (value instanceof Date || value instanceof RegExp) return `${value.constructor.name} ${Number(value)} ${value}`;
    if (value instanceof ArrayBuffer) return `buffer ${new Uint8Array(value)}`;
    if (ArrayBuffer.isView(value)) return `${value.constructor.name} ${value}`;
    if (Array.isArray(value)) return `[${Array.from(value, show)}]`;
    if (value?.self === value && value) return "circle";
    if (value && typeof value === "object")
      return `${value.constructor.name}{${Object.entries(value).map(([k, v]) => `${k}: ${show(v)}`)}}`;
    return `${typeof value} ${typeof value === "string" ? JSON.stringify(value) : value}`;
  };
  const shown = [];
  for (const { name, version } of await indexedDB.databases()) {
    const database = await done(indexedDB.open(name));
    for (const store of database.objectStoreNames) {
      const from = database.transaction(store).objectStore(store);
      shown.push(`${name} ${version} ${store} ${from.keyPath} ${from.autoIncrement} ${[...from.indexNames]}`);
      const keys = await done(from.getAllKeys());
      for (const key of keys) shown.push(`${show(key)} = ${show(await done(from.get(key)))}`);
    }
    database.close();
  }
  return shown;
}"""


def any_site(demo: DemoSite) -> Site:
    return demo_file(demo, "/any/chat", check=NO_CHECK)


def site_page(page: ChatPage) -> SitePage:
    assert page._opened
    return page._opened.page


async def save(page: ChatPage) -> dict[str, Any]:
    """Have the session saved now, and return what the next start would open."""
    assert page._opened
    await page._opened.login.save()
    return state_to_open(load_profile(page._profile), page._run_dir)


async def reopened(pages: Pages, page: ChatPage, site: Site) -> ChatPage:
    """Close the page, and return one that was started on the same profile and run folder."""
    await page.close()
    state = json.loads(page._profile.read_text())
    return await pages.open(site, state, run_dir=page._run_dir, engine=page._browser.host.engine)


@pytest.mark.parametrize("kind", CARRIED_BY)
async def test_a_login_of_every_kind_outlives_restarts(shared_pages: Pages, demo: DemoSite, kind: LoginKind) -> None:
    site = any_site(demo)
    page = await shared_pages.open(site, kind_state(demo, kind))
    for number in range(3):
        assert page.status.ready, page.status
        check_answer(await ask(page, f"hello {number}"), f"hello {number}", last(demo))
        page = await reopened(shared_pages, page, site)
    assert page.status.ready
    assert (demo.sessions.reused, demo.sessions.resurrected) == (0, 0)


CLICKS = '{ click = "[data-testid=new-chat]" }'


@pytest.mark.parametrize("fresh_chat", [CLICKS, '{ goto = "/any/chat" }'], ids=["click", "load"])
async def test_a_child_could_be_killed_at_any_request_without_the_loss_of_a_login(
    shared_pages: Pages, demo: DemoSite, monkeypatch: pytest.MonkeyPatch, fresh_chat: str
) -> None:
    """What is saved then is no token that the site has had for the last time."""
    site = demo_file(demo, "/any/chat", check=NO_CHECK, fresh=f"{CLICKS}|{fresh_chat}")
    page = await shared_pages.open(site, kind_state(demo, "rotating"))
    await save(page)
    find, requests, lost = demo.sessions.find, 0, []

    def watched(token: str, kind: Kind) -> Session | None:
        nonlocal requests
        requests += 1
        session = find(token, kind)
        saved = state_to_open(load_profile(page._profile), page._run_dir)
        token = next(cookie["value"] for cookie in saved["cookies"] if cookie["name"] == "demo_session")
        if token in demo.sessions._spent:
            lost.append(requests)
        return session

    monkeypatch.setattr(demo.sessions, "find", watched)
    for number in range(4):
        check_answer(await ask(page, f"hello {number}"), f"hello {number}", last(demo))
    assert requests >= 4
    assert lost == []


@pytest.mark.parametrize("kind", ["tab", "database", "token"])
async def test_a_login_of_every_storage_outlives_a_new_context_and_a_new_tab(
    shared_pages: Pages, demo: DemoSite, kind: LoginKind
) -> None:
    page = await shared_pages.open(any_site(demo), kind_state(demo, kind))
    opened = site_page(page)
    async with page.exclusive:
        await opened.renew(await save(page))
        assert await opened.wait_for_login() == "in"
        await opened.open_tab()
        await opened.open()
    check_answer(await ask(page, "hello"), "hello", last(demo))


async def test_values_of_every_type_in_indexed_db_outlive_a_restart(shared_pages: Pages, demo: DemoSite) -> None:
    site = demo_file(demo)
    page = await shared_pages.open(site, cookie_state(demo))
    with capture_logs() as lines:
        await tab_of(page).page.evaluate(PUT)
        before = await tab_of(page).page.evaluate(SHOW)
        await save(page)
    assert [line["records_left_out"] for line in lines if line["event"] == "session_incomplete"] == [4]
    page = await reopened(shared_pages, page, site)
    gone = ('string "blob"', 'string "map"', 'string "cryptokey"', 'string "deep"')
    # Half a surrogate pair has no place in a file.
    wanted = [line.replace('"half \\ud83d"', '"half \ufffd"') for line in before if not line.startswith(gone)]
    assert await tab_of(page).page.evaluate(SHOW) == wanted
    # What was put back is read again as it was, save for save.
    assert _databases(await save(page)) == _databases(json.loads(json.dumps(await save(page))))


def _databases(state: dict[str, Any]) -> Any:
    return [origin.get("indexedDB") for origin in state["origins"]]


async def test_what_the_browser_deleted_stays_deleted(shared_pages: Pages, demo: DemoSite) -> None:
    """A cookie, a key of each storage, a record and a database; and what is new is there."""
    site = demo_file(demo)
    state = cookie_state(demo)
    state["cookies"].append(login_cookie("1", time.time() + 1000) | {"name": "old", "httpOnly": False})
    kept = [{"name": "old", "value": "1"}, {"name": "stays", "value": "1"}]
    records = [{"key": "old", "value": 1}, {"key": "stays", "value": 1}]
    stores = [{"name": "s", "autoIncrement": False, "indexes": [], "records": records}]
    databases = [{"name": name, "version": 1, "stores": stores} for name in ("old", "stays")]
    state["origins"] = [{"origin": demo.url, "localStorage": kept, "indexedDB": databases}]
    state["sessionStorage"] = [{"origin": demo.url, "items": kept}]
    page = await shared_pages.open(site, state)
    await tab_of(page).page.evaluate("""async () => {
      const done = (request) => new Promise((resolve, reject) => {
        request.onsuccess = resolve; request.onerror = reject; request.onblocked = reject; });
      document.cookie = "old=; Max-Age=0; path=/";
      document.cookie = "new=1; Max-Age=1000; path=/";
      for (const storage of [localStorage, sessionStorage]) { storage.removeItem("old"); storage.setItem("new", "1"); }
      await done(indexedDB.deleteDatabase("old"));
      const opening = indexedDB.open("stays");
      await done(opening);
      const store = opening.result.transaction("s", "readwrite").objectStore("s");
      store.delete("old");
      await done(store.put(1, "new"));
      opening.result.close();
    }""")
    # A page that goes on to another document within the tab finds what it left.
    await tab_of(page).page.reload()
    assert await tab_of(page).page.evaluate("Object.keys(sessionStorage).sort()") == ["new", "stays"]
    page = await reopened(shared_pages, page, site)
    look = """async () => [document.cookie.split("; ").sort(), Object.keys(localStorage).sort(),
      Object.keys(sessionStorage).sort(), (await indexedDB.databases()).map(({ name }) => name)]"""
    assert await tab_of(page).page.evaluate(look) == [["new=1"], ["new", "stays"], ["new", "stays"], ["stays"]]
    assert [line.split(" = ")[0] for line in await tab_of(page).page.evaluate(SHOW)][1:] == [
        'string "new"',
        'string "stays"',
    ]


async def test_reading_keeps_no_page_from_deleting_its_database(shared_pages: Pages, demo: DemoSite) -> None:
    """Playwright's own reader leaves the database open, and the page waits for ever."""
    page = await shared_pages.open(demo_file(demo), cookie_state(demo))
    await tab_of(page).page.evaluate(PUT)
    await save(page)
    deleting = tab_of(page).page.evaluate("""() => new Promise((resolve) => {
      const request = indexedDB.deleteDatabase("kinds");
      request.onsuccess = () => resolve("deleted"); request.onblocked = () => resolve("blocked"); })""")
    assert await asyncio.wait_for(deleting, HANG_LIMIT_S) == "deleted"


async def test_a_database_that_cannot_be_read_stays_as_it_was_saved(
    shared_pages: Pages, demo: DemoSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = cookie_state(demo)
    stores = [{"name": "s", "autoIncrement": False, "indexes": [], "records": [{"key": "k", "value": "v" * 20}]}]
    database = {"name": "d", "version": 1, "stores": stores}
    state["origins"] = [{"origin": demo.url, "localStorage": [], "indexedDB": [database]}]
    page = await shared_pages.open(demo_file(demo), state)
    for limit in ("MAX_RECORDS", "MAX_DATABASE_CHARACTERS"):
        with monkeypatch.context() as patch:
            patch.setattr(storage, limit, 0)
            await tab_of(page).page.evaluate(
                "localStorage.setItem('changed', String(Number(localStorage.changed || 0) + 1))"
            )
            saved = await save(page)
        assert saved["origins"][0]["indexedDB"] == [database]
    assert saved["origins"][0]["localStorage"] == [{"name": "changed", "value": "2"}]


async def test_a_profile_whose_database_no_browser_takes_opens_without_it(shared_pages: Pages, demo: DemoSite) -> None:
    """Playwright's own reader writes a key of 0 as none; and the same key twice cannot be put back at all."""
    state = cookie_state(demo)
    store = {"name": "s", "autoIncrement": False, "indexes": [], "records": [{"value": 1}, {"key": 1, "value": 2}]}
    state["origins"] = [
        {"origin": demo.url, "localStorage": [], "indexedDB": [{"name": "d", "version": 1, "stores": [store]}]}
    ]
    page = await shared_pages.open(demo_file(demo), state)
    assert (await tab_of(page).page.evaluate(SHOW))[1:] == ["number 1 = number 2"]
    for wrong in ([{"key": 1, "value": 1}, {"key": 1, "value": 2}], 5, ["a text"]):
        store["records"] = wrong
        with capture_logs() as lines:
            page = await shared_pages.open(demo_file(demo), state)
        assert page.status.ready
        assert "databases_not_put_back" in [line["event"] for line in lines]


async def test_partitioned_cookies_and_forms_that_browsers_treat_differently(shared_browser: SharedBrowser) -> None:
    """CHIPS, `__Host-`, quoted values, an expiry beyond 400 days, SameSite=None without Secure."""
    browser = await shared_browser.browser()
    base = {"domain": "chat.example.com", "path": "/", "expires": time.time() + 1000, "httpOnly": True, "secure": True}
    chips = {"partitionKey": "https://example.com", "_crHasCrossSiteAncestor": False}
    cookies = [
        base | {"name": "chips", "value": "1", "sameSite": "None", **chips},
        base | {"name": "__Host-id", "value": "2", "sameSite": "Strict"},
        base | {"name": "quoted", "value": '"a b"', "sameSite": "Lax"},
        base | {"name": "far", "value": "3", "sameSite": "Lax", "expires": time.time() + 2000 * 86400},
        base | {"name": "none", "value": "4", "sameSite": "None", "secure": False},
    ]
    given = as_browser_loads_it({"cookies": cookies, "origins": []})
    context = await browser.new_context(storage_state=cast("Any", given))
    read = await storage.read_storage(context, "https://chat.example.com", {})
    await context.close()
    again = await browser.new_context(storage_state=cast("Any", as_browser_loads_it(read.state)))
    kept = {
        cookie["name"]: cookie
        for cookie in (await storage.read_storage(again, "https://chat.example.com", {})).state["cookies"]
    }
    await again.close()
    assert {name: cookie["value"] for name, cookie in kept.items()} == {
        cookie["name"]: cookie["value"] for cookie in cookies
    }
    assert kept["chips"]["partitionKey"] == chips["partitionKey"]
    assert kept["none"]["sameSite"] == "Lax"
    assert time.time() + 399 * 86400 < kept["far"]["expires"] < time.time() + 401 * 86400


TWO_ORIGINS = """<!doctype html><meta charset=utf-8><div id=app>in</div><textarea id=box></textarea><script>
  document.body.append(Object.assign(document.createElement("iframe"), { src: OTHER }));
</script>"""
"""A page with a frame of another origin of the same site: what a site does that keeps its login apart."""


async def test_a_frame_of_the_same_site_keeps_its_storage(shared_browser: SharedBrowser) -> None:
    """Another port of a host is another origin of the same site."""
    other = web.Application()
    other.router.add_get("/", _respond("<!doctype html><p>frame</p>"))
    async with serving(other) as frame_url:
        outer = web.Application()
        outer.router.add_get("/", _respond(TWO_ORIGINS.replace("OTHER", json.dumps(frame_url))))
        async with serving(outer) as url:
            context = await (await shared_browser.browser()).new_context()
            page = await context.new_page()
            await page.goto(url)
            frame = page.frames[-1]
            put = """async (value) => {
              sessionStorage.setItem("t", value); localStorage.setItem("l", value);
              const opening = indexedDB.open("d", 1);
              opening.onupgradeneeded = () => opening.result.createObjectStore("s").put(value, "k");
              await new Promise((resolve) => { opening.onsuccess = resolve; }); opening.result.close(); }"""
            await frame.evaluate(put, "in the frame")
            await page.evaluate(put, "in the page")
            read = await storage.read_storage(context, url, {})
            await context.close()
            again = await (await shared_browser.browser()).new_context(
                storage_state=cast("Any", as_browser_loads_it(read.state))
            )
            page = await again.new_page()
            await storage.put_back_session_storage(page, read.state)
            await page.goto(url)
            look = """async () => {
              const opening = indexedDB.open("d");
              await new Promise((resolve) => { opening.onsuccess = resolve; });
              const asking = opening.result.transaction("s").objectStore("s").get("k");
              await new Promise((resolve) => { asking.onsuccess = resolve; });
              return [sessionStorage.t, localStorage.l, asking.result]; }"""
            assert await page.frames[-1].evaluate(look) == ["in the frame"] * 3
            assert await page.evaluate(look) == ["in the page"] * 3
            await again.close()


def _respond(text: str) -> Any:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    return handler


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve an application on a free port; yield its address."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_session_storage_is_put_back_once_and_never_over_what_the_page_has(
    shared_browser: SharedBrowser,
) -> None:
    """The site's first script finds it, and may empty it and go on to another document at once, as a logout does."""
    app = web.Application()
    app.router.add_get(
        "/",
        _respond(
            "<script>window.first = sessionStorage.t; "
            "if (!sessionStorage.seen) { sessionStorage.clear(); sessionStorage.seen = 1; "
            "localStorage.first = String(window.first); location.replace('/next') }</script>"
        ),
    )
    app.router.add_get("/next", _respond("<p id=next>next</p>"))
    async with serving(app) as url:
        page = await (await (await shared_browser.browser()).new_context()).new_page()
        await storage.put_back_session_storage(
            page, {"sessionStorage": [{"origin": url, "items": [{"name": "t", "value": "1"}]}]}
        )
        await page.goto(url, wait_until="commit")
        await page.wait_for_url("**/next")
        assert await page.evaluate("[localStorage.first, Object.keys(sessionStorage)]") == ["1", ["seen"]]
        await page.context.close()


async def test_login_saves_what_only_a_tab_holds(shared_browser: SharedBrowser, demo: DemoSite) -> None:
    browser = await shared_browser.browser()
    page = await SitePage.in_new_context(browser, any_site(demo), state=kind_state(demo, "tab"))
    await page.open_tab()
    await page.load()
    assert await page.wait_for_login() == "in"
    state = await login.state_that_holds(page, any_site(demo))
    await page.context.close()
    assert state
    assert [one["origin"] for one in state["sessionStorage"]] == [demo.url]


@pytest.mark.parametrize(
    ("origin", "is_ours"),
    [
        ("https://chat.example.com", True),
        ("https://auth.chat.example.com:8443", True),
        ("https://example.com", True),
        ("https://auth.example.com", True),
        ("https://ads.example.org", False),
        ("https://notexample.com", False),
        ("https://com", False),
    ],
)
def test_which_origins_are_the_sites(origin: str, is_ours: bool) -> None:
    cookies = [{"domain": ".example.com"}, {"domain": "ads.example.org"}]
    assert is_of_site(origin, "https://chat.example.com/chat", cookies) is is_ours


SERVER = login_cookie("1", 4e9) | {"domain": "chat.example.com"}
SCRIPT = SERVER | {"name": "theme", "httpOnly": False}
TOKEN = {"origin": "https://chat.example.com", "localStorage": [{"name": "t", "value": "t" * 20}]}


class FakeContext:
    """A context that holds this, and no document that could be read."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.pages: list[Any] = []
        self._state = state

    async def storage_state(self, **_: Any) -> dict[str, Any]:
        return self._state

    async def cookies(self) -> list[dict[str, Any]]:
        return list(self._state["cookies"])


@pytest.mark.parametrize(
    ("found", "confirmed", "is_saved"),
    [
        pytest.param({"cookies": [SERVER, SCRIPT], "origins": []}, False, True, id="another cookie"),
        pytest.param({"cookies": [], "origins": [TOKEN]}, True, False, id="no cookie"),
        pytest.param({"cookies": [], "origins": []}, True, False, id="nothing"),
        pytest.param({"cookies": [SCRIPT], "origins": []}, False, False, id="no cookie of the server"),
        pytest.param({"cookies": [SCRIPT], "origins": []}, True, True, id="none, but the site says that it holds"),
        pytest.param({"cookies": [SCRIPT], "origins": [TOKEN]}, False, True, id="none, but a token"),
        pytest.param(
            {"cookies": [SCRIPT, SERVER | {"domain": "ads.example.org"}], "origins": []},
            False,
            False,
            id="only another site's",
        ),
        pytest.param(
            {
                "cookies": [SERVER],
                "origins": [TOKEN | {"localStorage": [{"name": "t", "value": "t" * MAX_PROFILE_BYTES}]}],
            },
            True,
            False,
            id="too large to be read again",
        ),
    ],
)
async def test_what_is_poorer_replaces_nothing(
    tmp_path: Path, found: dict[str, Any], confirmed: bool, is_saved: bool
) -> None:
    state = {"cookies": [SERVER], "origins": []}
    profile = load_profile(write_profile(tmp_path / "ada.json", state))
    keeper = SessionKeeper(profile, state, tmp_path, "https://chat.example.com/")
    await keeper.save(cast("Any", FakeContext(found)), confirmed=confirmed)
    assert state_to_open(profile, tmp_path) == (found if is_saved else state)


async def test_cookies_are_saved_before_a_prompt_uses_them(shared_pages: Pages, demo: DemoSite) -> None:
    """A child that is killed in the middle of an answer has used no token that was not saved."""
    page = await shared_pages.open(any_site(demo), kind_state(demo, "rotating"))
    with patch_nothing_else_saved(page):
        asking = asyncio.create_task(ask(page, "[[stall=middle]]"), name="asking")
        await eventually(demo.ledger.entries)
        saved = state_to_open(load_profile(page._profile), page._run_dir)
    (token,) = [cookie["value"] for cookie in saved["cookies"] if cookie["name"] == "demo_session"]
    session = demo.sessions.find(token, "cookie")
    assert session is not None
    assert session.previous == token
    demo.chat.stop_all()
    await asyncio.gather(asking, return_exceptions=True)


@contextmanager
def patch_nothing_else_saved(page: ChatPage) -> Iterator[None]:
    """Let nothing be saved but by what comes before a prompt."""
    assert page._opened
    keeper = page._opened.login._session
    with pytest.MonkeyPatch.context() as patch:

        async def save(*_: Any, **__: Any) -> None: ...

        patch.setattr(keeper, "save", save)
        yield
