"""A login's whole storage, read from a browser's context and put back into one.

Cookies and localStorage are Playwright's `storage_state`, for all origins that the context has visited. IndexedDB and
sessionStorage are read by storage.js in the documents that are open: the page, and its frames of the same site. The
site is the page's host, the hosts above and below it, and those that share a cookie with it. What is in no open
document, such as an origin that a login only passed through, stays as it was last; nobody has changed it since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog
from playwright.async_api import BrowserContext, Error, Frame, Page, Route

from browser.page.profile import StorageState, as_chromium_loads_it
from browser.timeouts import within

log = structlog.get_logger("browser")

READ_TIMEOUT_S: Final = 2.0
OPEN_DATABASE_S: Final = 1.0
MAX_ORIGINS: Final = 8
MAX_RECORDS: Final = 5_000
MAX_DATABASE_CHARACTERS: Final = 1024 * 1024
"""Larger databases hold a site's content, such as its conversations; a login takes a few kilobytes."""
MAX_CHARACTERS: Final = 8 * MAX_DATABASE_CHARACTERS
"""What is read of one login's databases and tabs together."""
PUT_BACK_TIMEOUT_S: Final = 5.0

_READ = (Path(__file__).parent / "storage.js").read_text(encoding="utf-8")
# A value that the page has set is newer.
_PUT_BACK = """((origins) => {
  for (const { origin, items } of origins) {
    if (origin !== location.origin) continue;
    for (const { name, value } of items) {
      try { if (sessionStorage.getItem(name) === null) sessionStorage.setItem(name, value); } catch { /* it is full */ }
    }
  }
})"""


@dataclass(frozen=True)
class StorageRead:
    """What a context holds; `kept` names what could not be read, and is as it was last."""

    state: StorageState
    kept: tuple[str, ...] = ()
    left_out: int = 0
    """How many records of IndexedDB no file can hold."""


async def read_storage(
    context: BrowserContext,
    url: str,
    last: StorageState,
    *,
    timeout_s: float = READ_TIMEOUT_S,
    everywhere: bool = False,
) -> StorageRead:
    """Read cookies, localStorage, IndexedDB and sessionStorage; what of the last two cannot be read is that of `last`.

    `url` is the site's. `everywhere` looks for databases also at origins that no document is open of, by Playwright's
    reader, which takes longer. Raises Playwright's Error, and TimeoutError where cookies and localStorage cannot be
    read in timeout_s seconds.
    """
    try:
        asking = context.storage_state(indexed_db=everywhere)
        state: StorageState = {**await within(timeout_s, asking, "storage-state")}
    except (Error, TimeoutError):
        if not everywhere:
            raise
        return await read_storage(context, url, last, timeout_s=timeout_s)
    last = {**last, "origins": state["origins"]} if everywhere else last
    cookies = state.get("cookies", [])
    left = MAX_CHARACTERS
    read: dict[str, Mapping[str, Any]] = {}
    kept: list[str] = []
    for frame in _open_frames(context, url, cookies):
        given = {
            "openS": OPEN_DATABASE_S,
            "maxRecords": MAX_RECORDS,
            "maxCharacters": min(MAX_DATABASE_CHARACTERS, left),
        }
        try:
            text = await within(timeout_s, frame.evaluate(_READ, given), "storage-read")
            found = json.loads(text)
            read[found["origin"]] = found
            left -= len(text)
        except (Error, TimeoutError):
            kept.append("a document that does not answer")
    origins = {origin["origin"]: {**origin, "indexedDB": []} for origin in state.get("origins", [])}
    for origin in {*read, *(one["origin"] for one in last.get("origins", []) if one.get("indexedDB"))}:
        entry: Mapping[str, Any] = next((entry for entry in last.get("origins", []) if entry["origin"] == origin), {})
        before = entry.get("indexedDB", [])
        databases, unread = _databases(read.get(origin), before)
        kept += unread
        if databases:
            one = origins.setdefault(origin, {"origin": origin, "localStorage": []})
            one["indexedDB"] = databases
    state["origins"] = [
        {key: value for key, value in one.items() if key != "indexedDB" or value} for one in origins.values()
    ]
    sessions = _session_storage(read, last.get("sessionStorage", []))
    if sessions:
        state["sessionStorage"] = sessions
    return StorageRead(state, tuple(kept), sum(found["leftOut"] for found in read.values()))


def _open_frames(context: BrowserContext, url: str, cookies: Sequence[Mapping[str, Any]]) -> list[Frame]:
    """Return one frame for each origin of the site that is open, pages before what they hold; MAX_ORIGINS at most."""
    found: dict[str, Frame] = {}
    frames = [page.main_frame for page in context.pages] + [frame for page in context.pages for frame in page.frames]
    for frame in frames:
        origin = _origin(frame.url)
        if origin and is_of_site(origin, url, cookies):
            found.setdefault(origin, frame)
    return list(found.values())[:MAX_ORIGINS]


def _origin(url: str) -> str | None:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") and parts.netloc else None


def is_of_site(origin: str, url: str, cookies: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the origin belongs to the site at `url`.

    Browsers give the frames of other sites a storage of their own for each page that they are in, which no profile
    can hold.
    """
    host, of_site = (urlsplit(address).hostname or "" for address in (origin, url))
    if host == of_site or host.endswith(f".{of_site}") or ("." in host and of_site.endswith(f".{host}")):
        return True
    shared = [cookie["domain"] for cookie in cookies if cookie.get("domain", "").startswith(".")]
    return any(f".{host}".endswith(domain) and f".{of_site}".endswith(domain) for domain in shared)


def _databases(
    found: Mapping[str, Any] | None, last: Sequence[Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Return an origin's databases, those that could not be read as they were last, and why there are such."""
    if found is None:
        return list(last), []
    if found["databases"] is None:
        return list(last), ["IndexedDB"] if last else []
    unread = set(found["unread"])
    return (
        [*found["databases"], *(database for database in last if database["name"] in unread)],
        ["a database that is large or busy"] if unread else [],
    )


def _session_storage(
    read: Mapping[str, Mapping[str, Any]], last: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    found = {one["origin"]: one["items"] for one in last}
    found |= {origin: one["sessionStorage"] for origin, one in read.items() if one["sessionStorage"] is not None}
    return [{"origin": origin, "items": items} for origin, items in found.items() if items]


def as_browser_loads_it(state: StorageState) -> StorageState:
    """Return the state as Playwright takes it: without what it does not know, and what it would fail at.

    Firefox 153 drops a cookie with SameSite=None that is not secure as Chromium does, though it reports such ones.
    Playwright's own reader loses a key of 0 or "", and then no browser loads the profile: those records are left out.
    """
    state = as_chromium_loads_it(state)
    origins = [
        {**origin, "indexedDB": [_loadable(database) for database in origin["indexedDB"]]}
        if origin.get("indexedDB")
        else origin
        for origin in state.get("origins", [])
    ]
    return {"cookies": state.get("cookies", []), "origins": origins}


def without_databases(state: StorageState) -> StorageState:
    """Return the state without IndexedDB."""
    origins = [{key: value for key, value in origin.items() if key != "indexedDB"} for origin in state["origins"]]
    return {**state, "origins": origins}


def _loadable(database: Mapping[str, Any]) -> dict[str, Any]:
    return {**database, "stores": [{**store, "records": _with_key(store)} for store in database["stores"]]}


def _with_key(store: Mapping[str, Any]) -> Any:
    records: Any = store.get("records", [])
    if (
        not isinstance(records, list)
        or store.get("keyPath") is not None
        or store.get("keyPathArray") is not None
        or store.get("autoIncrement")
    ):
        return records
    return [
        record
        for record in records
        if not isinstance(record, dict) or record.get("key") is not None or record.get("keyEncoded") is not None
    ]


async def put_back_session_storage(page: Page, state: StorageState) -> None:
    """Put back the state's sessionStorage into a new tab, before the site's own scripts run in it.

    It is done in a document of ours at each origin, by an init script that is gone afterwards: what the page removes
    or changes from then on stays so, whatever it loads. Raises Playwright's Error and TimeoutError.
    """
    stored = state.get("sessionStorage", [])
    if not stored:
        return
    script = f"{_PUT_BACK}({json.dumps(stored)})"

    async def be_blank(route: Route) -> None:
        await route.fulfill(status=200, content_type="text/html", body="<!doctype html>")

    async def visit() -> None:
        async with await page.add_init_script(script):
            await page.route("**/*", be_blank)
            for one in stored[:MAX_ORIGINS]:
                await page.goto(one["origin"], wait_until="commit")
                # The init script has run by the time that anything can be evaluated.
                await page.evaluate("0")
            await page.unroute("**/*", be_blank)

    await within(PUT_BACK_TIMEOUT_S, visit(), "storage-put-back")
