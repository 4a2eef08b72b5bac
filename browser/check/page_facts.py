"""What can be said of the page when something is not found there."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from playwright.async_api import Error, Page

from browser.check.screen import plain
from browser.site.schema import Action, Marker
from browser.timeouts import within

LOOK_TIMEOUT_S = 2.0
_CSS = """(selector) => {
  let found;
  try { found = document.querySelectorAll(selector); } catch { return null; }
  const seen = (element) => element.checkVisibility
    ? element.checkVisibility({ visibilityProperty: true })
    : element.getClientRects().length > 0;
  return [found.length, Array.prototype.filter.call(found, seen).length];
}"""


async def where(page: Page) -> str:
    """Say which page it is, without what stands behind the address's question mark."""
    try:
        title = await within(LOOK_TIMEOUT_S, page.title(), "check-title")
    except (Error, TimeoutError):
        title = "a page that does not answer"
    parts = urlsplit(page.url)
    address = urlunsplit(parts._replace(query="…" if parts.query else "", fragment=""))
    return f"{address} ({plain(title, 60)!r})"


async def css(page: Page, selector: str) -> str:
    """Say what a CSS selector finds."""
    try:
        counts = await within(LOOK_TIMEOUT_S, page.evaluate(_CSS, selector), "check-look")
    except (Error, TimeoutError):
        return "the page does not answer"
    return "is not a CSS selector" if counts is None else _counted(*counts)


async def found(page: Page, selector: str) -> str:
    """Say what one of Playwright's selectors finds."""
    locator = page.locator(selector)
    try:
        count = await within(LOOK_TIMEOUT_S, locator.count(), "check-look")
        shown = [
            await within(LOOK_TIMEOUT_S, locator.nth(at).is_visible(), "check-look") for at in range(min(count, 20))
        ]
    except TimeoutError:
        return "the page does not answer"
    except Error:
        return "is not a selector"
    return _counted(count, sum(shown))


def _counted(count: int, visible: int) -> str:
    if not count:
        return "finds nothing on the page"
    elements = "1 element" if count == 1 else f"{count} elements"
    if visible == count:
        return f"finds {elements}, visible"
    return f"finds {elements}, {visible or 'none'} of them visible"


async def markers(page: Page, name: str, listed: tuple[Marker, ...]) -> list[str]:
    """Say of each marker what it finds."""
    lines = []
    for marker in listed:
        if marker.selector:
            lines.append(f"{name}: {marker.selector!r} {await css(page, marker.selector)}")
        if marker.url:
            lines.append(f"{name}: url {marker.url!r}")
    return lines


async def action(page: Page, step: Action, default: str) -> list[str]:
    """Say what the selector of an action finds; `default` is where keys go."""
    verb = step.verb
    if verb == "goto":
        return []
    selector = (step.on or default) if verb == "press" else getattr(step, verb)
    return [f"{selector!r} {await found(page, selector)}"]
