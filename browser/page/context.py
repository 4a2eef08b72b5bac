"""A context of the browser that is one login's, with the hook in every document."""

from contextlib import suppress

from playwright.async_api import Browser, BrowserContext, Error

from browser.capture.capture import Capture
from browser.page.profile import StorageState
from browser.settings import EngineName
from browser.site.schema import Site


async def open_context(
    browser: Browser, engine: EngineName, site: Site, state: StorageState, capture: Capture
) -> BrowserContext:
    """Open a context with that login's cookies and localStorage, and the hook. Raises Playwright's Error."""
    is_chromium = engine == "chromium"
    context = await browser.new_context(storage_state=state, bypass_csp=is_chromium)  # type: ignore[arg-type]
    if is_chromium:  # else a public page may not speak to the stream port on loopback
        with suppress(Error):  # a plain http origin can be granted nothing; the self-test finds what works there
            await context.grant_permissions(["local-network-access"], origin=site.origin)
    await context.add_init_script(capture.init_script())
    return context
