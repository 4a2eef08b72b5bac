"""The first steps: up to a page that is logged in and can be caught."""

import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

from playwright.async_api import Error

from browser.capture import scripts
from browser.check import looking
from browser.check.outcome import Exit, StepFailed, Told
from browser.check.stage import Stage
from browser.check.traffic import Traffic
from browser.errors import PageBroken
from browser.page.context import open_context
from browser.page.profile import LoadedProfile, load_profile
from browser.page.profile_lock import ProfileLock
from browser.page.tab import Tab
from browser.process.browser_process import BrowserHost
from browser.timeouts import within

CHECK_TIMEOUT_S = 5.0
CRASH = "the page crashed or was closed"


async def read_login(stage: Stage) -> Told:
    """Raises ProfileError, ProfileLocked."""
    path = stage.plan.profile
    stage.login = load_profile(path)
    now = time.time()
    stage.login.check_alive(now)
    stage.lock = await ProfileLock.acquire(stage.login.fingerprint, path.name)
    cookies, origins = (len(stage.login.state.get(key, [])) for key in ("cookies", "origins"))
    text = f"{path.name}: cookies: {cookies}, origins with localStorage: {origins}"
    expires = stage.login.summary.expires_at(now, urlsplit(stage.site.url).hostname)
    if expires is None:
        return Told(text)
    day = datetime.fromtimestamp(expires, UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
    return Told(f"{text}; expires {day} UTC by its cookies")


async def start_browser(stage: Stage) -> Told:
    """Raises EngineMissing, BrowserLost, StreamPortTaken."""
    await stage.capture.stream_port.start()
    plan = stage.plan
    stage.host = BrowserHost(engine=plan.engine, headless=plan.headless, run_dir=stage.run_dir, settings=plan.settings)
    browser = await stage.host.start()
    if stage.lock:
        stage.lock.note_browser(stage.host.browser_process)
    stage.context = await open_context(browser, plan.engine, stage.site, _login(stage).state, stage.capture)
    return Told(f"{plan.engine} {browser.version}")


def _login(stage: Stage) -> LoadedProfile:
    if stage.login is None:
        raise RuntimeError("the login was not read")
    return stage.login


async def open_page(stage: Stage) -> Told:
    if stage.context is None:
        raise RuntimeError("there is no browser")
    page = await stage.context.new_page()
    stage.traffic = Traffic(page)
    stage.page = Tab(page, stage.site, lambda: None)
    try:
        await stage.tab.load()
    except PageBroken as error:  # perhaps only because the page itself went on to another address
        if await stage.tab.settle(CHECK_TIMEOUT_S) == "unknown":
            raise StepFailed(str(error), "is the address right, and is the site up?") from None
    return Told(await looking.where(page))


async def logged_in(stage: Stage) -> Told:
    site, page = stage.site, stage.tab.page
    login = await stage.tab.settle(site.readiness.timeout_s)
    if login == "in":
        return Told("the page shows that it is logged in, and can take a prompt")
    hints = [f"the page: {await looking.where(page)}"]
    if login == "out":
        hints += await looking.markers(page, "logged_out", site.login.logged_out)
        raise StepFailed("the page shows that it is logged out", *hints, code=Exit.LOGGED_OUT)
    hints += await looking.markers(page, "logged_in", site.login.logged_in)
    if ready := site.readiness.selector:
        hints.append(f"readiness: {ready!r} {await looking.css(page, ready)}")
    raise StepFailed(f"no marker of being logged in or out within {site.readiness.timeout_s:g} s", *hints)


async def check_login(stage: Stage) -> Told:
    check = stage.site.login.check
    if check is None:
        return Told("the file has none: a login that ends while idle is noticed at the next prompt only", "skip")
    asking = stage.tab.page.evaluate(scripts.REQUEST_STATUS, stage.site.address(check.url))
    try:
        status = await within(CHECK_TIMEOUT_S, asking, "check-login")
    except (Error, TimeoutError):
        raise StepFailed(f"the page gets no response from {check.url}") from None
    if status in check.expired_status:
        raise StepFailed(f"{check.url} says {status}, logged out, although the page shows that it is logged in")
    if status >= 400:
        return Told(f"{check.url} says {status}: is that the right address?", "warn")
    return Told(f"{check.url} says {status}")


async def without_login(stage: Stage) -> Told:
    """Open the page once more without the login: its loss must show."""
    site = stage.site
    if not site.login.logged_out:
        return Told("the file has no login.logged_out: a lost login will look like a broken page", "warn")
    if stage.context is None or stage.context.browser is None:
        raise RuntimeError("there is no browser")
    context = await stage.context.browser.new_context()
    try:
        tab = Tab(await context.new_page(), site, lambda: None)
        await tab.load()
        login = await tab.settle(site.readiness.timeout_s)
        hints = [f"the page: {await looking.where(tab.page)}"]
        hints += await looking.markers(tab.page, "logged_in", site.login.logged_in)
        hints += await looking.markers(tab.page, "logged_out", site.login.logged_out)
    finally:
        await context.close()
    if login == "in":
        raise StepFailed("without the login, too, the page counts as logged in", *hints)
    if login == "unknown":
        raise StepFailed("without the login the page shows no marker of being logged out", *hints)
    return Told("without the login the page shows that it is logged out")


async def test_capture(stage: Stage) -> Told:
    way = await stage.capture.self_test(stage.tab.page)
    if way == "network":
        return Told("the hook is in the page and reaches us: answers are read from the page's traffic")
    if stage.site.capture.network:
        return Told("the page keeps the hook from reaching us: answers are read from the page itself", "warn")
    return Told("answers are read from the page itself, as the file says")
