"""What selectors find on the page, for the hints of a step that failed."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

from playwright.async_api import Error, Page

from browser.capture import scripts
from browser.check.diagnosis import Diagnosis
from browser.check.plain_text import plain
from browser.errors import PageHung
from browser.page.locate import locate_all
from browser.page.tab import Tab
from browser.site.schema import Action, Marker, Site
from browser.site.selectors import FRAME, frame_parts, path_or_none
from browser.timeouts import within

LOOK_TIMEOUT_S = 2.0
MAX_LOOKED_AT = 20
IS_OPEN = "() => { try { return Boolean(top.document); } catch { return false; } }"


async def where(page: Page) -> str:
    """Say which page it is, without the address's query: that may hold a secret."""
    try:
        title = await within(LOOK_TIMEOUT_S, page.title(), "check-title")
    except (Error, TimeoutError):
        title = "a page that does not answer"
    parts = urlsplit(page.url)
    address = urlunsplit(parts._replace(query="…" if parts.query else "", fragment=""))
    return f"{address} ({plain(title, 60)!r})"


async def css(page: Page, selector: str) -> str:
    """Say what a selector of a key that takes CSS finds."""
    try:
        counts = await within(LOOK_TIMEOUT_S, page.evaluate(scripts.COUNTS, path_or_none(selector)), "check-look")
    except (Error, TimeoutError):
        return "the page does not answer"
    if counts is None:
        return "is not a CSS selector"
    return await _counted(page, selector, *counts)


async def found(page: Page, selector: str) -> str:
    """Say what one of Playwright's selectors finds."""
    locator = locate_all(page, selector)
    try:
        count = await within(LOOK_TIMEOUT_S, locator.count(), "check-look")
        shown = 0
        for at in range(min(count, MAX_LOOKED_AT)):  # a call for each: of a thousand list items that would take minutes
            shown += await within(LOOK_TIMEOUT_S, locator.nth(at).is_visible(), "check-look")
    except TimeoutError:
        return "the page does not answer"
    except Error:
        return "is not a selector"
    return await _counted(page, selector, count, shown)


async def _counted(page: Page, selector: str, count: int, visible: int) -> str:
    if not count:
        missing = "finds nothing on the page"
        with suppress(Error, TimeoutError):
            if await within(LOOK_TIMEOUT_S, _is_in_a_frame(page, selector), "check-frames"):
                return (
                    f"{missing}, but something in a frame: put the frame before it, as in 'iframe {FRAME} {selector}'"
                )
        return missing
    elements = "1 element" if count == 1 else f"{count} elements"
    if visible == count:
        return f"finds {elements}, visible"
    return f"finds {elements}, {visible or 'none'} of them visible"


async def _is_in_a_frame(page: Page, selector: str) -> bool:
    """Return whether a selector that names no frame would find something in one that can be looked into."""
    if len(frame_parts(selector)) > 1:
        return False
    for frame in page.frames[1:]:
        if await frame.evaluate(IS_OPEN) and await frame.locator(selector).count():
            return True
    return False


async def markers(page: Page, name: str, listed: tuple[Marker, ...]) -> list[str]:
    """Say of each marker what it finds."""
    lines = []
    for marker in listed:
        if marker.selector:
            lines.append(f"{name}: {marker.selector!r} {await css(page, marker.selector)}")
        if marker.url:
            lines.append(f"{name}: url {marker.url!r}")
    return lines


async def unseen(page: Page, site: Site) -> tuple[str, ...]:
    """Return the keys of what keeps the page from counting as logged in and ready, the most likely one first.

    None, if nothing can be told from the selectors.
    """
    by_key = {
        f"login.logged_in.{at}.selector": marker.selector
        for at, marker in enumerate(site.login.logged_in)
        if marker.selector
    }
    seen = {key: await _is_visible(page, selector) for key, selector in by_key.items()}
    keys = [] if any(seen.values()) else list(seen)
    if site.readiness.selector and not await _is_visible(page, site.readiness.selector):
        keys.append("readiness.selector")
    return tuple(keys)


async def _is_visible(page: Page, selector: str) -> bool:
    try:
        counts = await within(LOOK_TIMEOUT_S, page.evaluate(scripts.COUNTS, path_or_none(selector)), "check-look")
    except (Error, TimeoutError):
        return False
    return bool(counts and counts[1])


async def action(page: Page, step: Action, default: str) -> list[str]:
    """Say what the selector of an action finds; `default` is where keys go."""
    verb = step.verb
    if verb == "goto":
        return []
    selector = (step.on or default) if verb == "press" else getattr(step, verb)
    return [f"{selector!r} {await found(page, selector)}"]


async def why_not_fresh(tab: Tab) -> Diagnosis:
    """Say what keeps the page from showing an empty conversation that can take a prompt."""
    site, hints, keys = tab.site, list[str](), list[str]()
    look = None
    with suppress(PageHung):
        look = await tab.look()
    if look is None:
        return Diagnosis(("the page does not answer",))
    if look.answers != site.fresh_chat.answers and site.capture.dom:
        hints.append(
            f"capture.dom.answer {site.capture.dom.answer!r} finds {look.answers}, expected {site.fresh_chat.answers} "
            "(fresh_chat.answers)"
        )
        keys += ["capture.dom.answer", "fresh_chat.actions"]
    if look.answering:
        hints.append(f"stop.answering {site.stop.answering!r} is there: the page counts as still answering")
        keys.append("stop.answering")
    if look.error is not None:
        hints.append(f"the page shows an error: {plain(look.error)}")
        keys.append("capture.dom.error")
    if not look.usable:
        keys += await unseen(tab.page, site)
        hints += await markers(tab.page, "logged_in", site.login.logged_in)
        if ready := site.ready_selector:
            hints.append(f"readiness: {ready!r} {await css(tab.page, ready)}")
    return Diagnosis(tuple(hints), tuple(keys))
