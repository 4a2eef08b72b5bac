"""All of a login's storage is kept over a restart, in real browsers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from browser.page import storage
from browser.page.chat_page import ChatPage
from browser.page.profile import load_profile, state_to_open
from browser.page.site_page import SitePage
from browser.page.storage import as_browser_loads_it
from browser.site.schema import Site
from demo.accounts import CARRIED_BY, LoginKind
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, SharedBrowser, demo_file, tab_of
from tests.browser.profiles import cookie_state, kind_state, login_cookie
from tests.support.waiting import HANG_LIMIT_S

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
    return await pages.open(site, state, run_dir=page._run_dir)


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
    assert [line["records_left_out"] for line in lines if line["event"] == "session_incomplete"] == [3]
    page = await reopened(shared_pages, page, site)
    gone = ('string "blob"', 'string "map"', 'string "cryptokey"')
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
    store["records"] = [{"key": 1, "value": 1}, {"key": 1, "value": 2}]
    with capture_logs() as lines:
        page = await shared_pages.open(demo_file(demo), state)
    assert page.status.ready
    assert "databases_not_put_back" in [line["event"] for line in lines]


async def test_partitioned_cookies_and_forms_that_browsers_treat_differently(
    shared_browser: SharedBrowser, demo: DemoSite
) -> None:
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
    given = as_browser_loads_it({"cookies": cookies, "origins": []}, is_chromium=True)
    context = await browser.new_context(storage_state=cast("Any", given))
    read = await storage.read_storage(context, "https://chat.example.com", {})
    await context.close()
    again = await browser.new_context(storage_state=cast("Any", as_browser_loads_it(read.state, is_chromium=True)))
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
