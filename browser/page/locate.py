"""A site file's selector as one of Playwright's locators."""

from __future__ import annotations

from playwright.async_api import Locator, Page

from browser.site.selectors import frame_parts


def locate(page: Page, selector: str) -> Locator:
    """Return the first element that a selector finds, in the frames that it names."""
    return locate_all(page, selector).first


def locate_all(page: Page, selector: str) -> Locator:
    """Return all elements that a selector finds, in the frames that it names."""
    *frames, last = frame_parts(selector)
    if not frames:
        return page.locator(last)
    inside = page.frame_locator(frames[0]).first
    for frame in frames[1:]:
        inside = inside.frame_locator(frame).first
    return inside.locator(last)
