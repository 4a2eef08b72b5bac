"""The first steps: up to a page that is logged in and can be caught."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

from browser.check import page_facts
from browser.check.context import CheckContext
from browser.check.outcome import Exit, Mark, StepFailed, StepResult
from browser.check.traffic import Traffic
from browser.errors import LoginRefused, PageBroken, ProxyRefused, ProxyUnreachable, RefreshFailed, SiteUnreachable
from browser.page.login_check import login_check_status
from browser.page.login_refresh import refresh_login
from browser.page.login_steps import StepLogin
from browser.page.profile import load_profile, login_part
from browser.page.profile_lock import ProfileLock
from browser.page.site_page import SitePage
from browser.process.browser_process import BrowserProcess
from browser.timeouts import within
from contract.storage_state.summary import NO_LOGIN, ProfileSummary

CHECK_TIMEOUT_S = 5.0


async def read_login(context: CheckContext) -> StepResult:
    """Read the login file and lock its login. Raises StepFailed, ProfileError, ProfileLocked."""
    path, login = context.plan.profile, context.site.login
    if path is None:
        if not login.none:
            how = "save one with launch_camoufox.py --login, and give it with --active-auth-json"
            raise StepFailed("there is none, and the site has a login", how, code=Exit.USAGE)
        return StepResult("there is none, and the site has no login")
    context.login = load_profile(path)
    context.login.check_fits(context.site)
    now = time.time()
    context.login.check_alive(now)
    if context.login.fingerprint != NO_LOGIN:
        context.lock = await ProfileLock.acquire(context.login.fingerprint, path.name)
    if login.steps and context.site.secrets <= context.login.secrets.keys():
        context.step_login = StepLogin(context.login.secrets)
    cookies, origins = (len(context.login.state.get(key, [])) for key in ("cookies", "origins"))
    text = f"{path.name}: cookies: {cookies}, origins with localStorage: {origins}"
    if secrets := context.login.secrets:
        text += f", secrets: {', '.join(sorted(secrets))}"
    ends = ProfileSummary.of(login_part(context.login.state, login.expires_by))
    expires = None if secrets else ends.expires_at(now, urlsplit(context.site.url).hostname)
    if expires is None:
        return StepResult(text)
    return StepResult(f"{text}; expires {_minute(expires)} by its cookies")


async def start_browser(context: CheckContext) -> StepResult:
    """Start the browser, with the login in a context of its own. Raises EngineMissing, BrowserLost, StreamPortTaken."""
    await context.stream_port.start()
    plan = context.plan
    context.host = BrowserProcess(
        engine=plan.engine,
        headless=plan.headless,
        run_dir=context.run_dir,
        settings=plan.settings,
        own_proxy=context.own_proxy,
        stream_port=context.port,
    )
    browser = await context.host.start()
    if context.lock:
        context.lock.note_browser(context.host.identity, context.run_dir)
    state = context.login.state if context.login else None
    context.site_page = await SitePage.in_new_context(
        browser, context.site, state=state, capture=context.capture, own_proxy=context.own_proxy
    )
    return StepResult(f"{plan.engine} {browser.version}")


async def open_page(context: CheckContext) -> StepResult:
    """Open a tab and load the site's page in it. Raises StepFailed."""
    context.page = await context.opened.open_tab()
    context.traffic = Traffic(context.tab.page)
    try:
        await context.opened.load(CHECK_TIMEOUT_S)
    except (ProxyRefused, ProxyUnreachable) as error:
        hint = "is the file of --proxy-file right, and is the proxy up?"
        raise StepFailed(str(error), hint, site_is_away=True) from None
    except PageBroken as error:
        is_away = isinstance(error, SiteUnreachable)
        raise StepFailed(str(error), "is the address right, and is the site up?", site_is_away=is_away) from None
    return StepResult(await page_facts.where(context.tab.page))


async def logged_in(context: CheckContext) -> StepResult:
    """Wait until the page shows whether it is logged in."""
    site, page = context.site, context.tab.page
    login = await context.opened.wait_for_login()
    if login == "in" and site.login.none:
        return StepResult("the site has no login, and the page can take a prompt")
    if login == "in":
        untried = "; login.steps were not needed, and not tried" if context.step_login else ""
        return StepResult(f"the page shows that it is logged in, and can take a prompt{untried}")
    if login == "out" and context.step_login:
        return await _log_in(context, context.step_login)
    hints = [f"the page: {await page_facts.where(page)}"]
    if login == "out":
        hints += await page_facts.markers(page, "logged_out", site.login.logged_out)
        raise StepFailed("the page shows that it is logged out", *hints, code=Exit.LOGGED_OUT)
    unseen = await page_facts.unseen(page, site)
    hints += await page_facts.markers(page, "logged_in", site.login.logged_in)
    if ready := site.ready_selector:
        hints.append(f"readiness: {ready!r} {await page_facts.css(page, ready)}")
    if site.login.none:
        text = f"the page cannot take a prompt within {site.readiness.timeout_s:g} s"
        raise StepFailed(text, *hints, keys=("readiness.selector", "input.selector"))
    raise StepFailed(f"no marker of being logged in or out within {site.readiness.timeout_s:g} s", *hints, keys=unseen)


async def _log_in(context: CheckContext, step_login: StepLogin) -> StepResult:
    """Log in by the site file's steps, once. Raises StepFailed."""
    site, page = context.site, context.tab.page
    try:
        await step_login.run(context.tab)
    except (LoginRefused, PageBroken) as error:
        hints = [f"the page: {await page_facts.where(page)}"]
        for step in site.login.steps:
            hints += await page_facts.action(page, step, site.input.selector)
        hints += await page_facts.markers(page, "logged_in", site.login.logged_in)
        hints += await page_facts.markers(page, "logged_out", site.login.logged_out)
        keys = ("login.steps", "login.logged_in")
        code = Exit.LOGGED_OUT if isinstance(error, LoginRefused) else Exit.FAILED
        raise StepFailed(str(error), *hints, code=code, keys=keys) from None
    return StepResult(f"the page was logged out; now it is logged in, by {len(site.login.steps)} steps (login.steps)")


async def check_login(context: CheckContext) -> StepResult:
    """Make the request that tells whether the session is valid."""
    check = context.site.login.check
    if check is None:
        unnoticed = "a site that goes away" if context.site.login.none else "a login that ends"
        return StepResult(f"the file has none: {unnoticed} while idle is noticed at the next prompt only", "skip")
    status = await login_check_status(context.tab, CHECK_TIMEOUT_S)
    if status is None:
        raise StepFailed(f"the page gets no response from {check.url}", site_is_away=True)
    if status in check.expired_status and not context.site.login.none:
        raise StepFailed(f"{check.url} says {status}, logged out, although the page shows that it is logged in")
    if status >= 400:
        return StepResult(f"{check.url} says {status}: is that the right address?", "warn")
    return StepResult(f"{check.url} says {status}")


async def refresh(context: CheckContext) -> StepResult:
    """Refresh the login once, and say what came of it. Raises StepFailed, and BrowserError where the page is lost."""
    how = context.site.login.refresh
    if how is None:
        return StepResult("the file has none: an idle login lasts as long as the site lets it", "skip")
    before = await _expires_at(context)
    try:
        did = await refresh_login(context.opened, how)
    except RefreshFailed as error:
        hints = []
        if how.steps and not how.own_tab:  # else the page that failed is gone
            hints.append(f"the page: {await page_facts.where(context.tab.page)}")
            for step in how.steps:
                hints += await page_facts.action(context.tab.page, step, context.site.input.selector)
            hints += await page_facts.markers(context.tab.page, "done", how.done)
        raise StepFailed(str(error), *hints, keys=(".".join(map(str, error.path)),)) from None
    after = await _expires_at(context)
    if not how.has_own_tab and how.fetch is None:
        await context.opened.load(CHECK_TIMEOUT_S)
    if await context.opened.wait_for_login() == "out":
        text = f"{did}, and then the page shows that it is logged out"
        raise StepFailed(text, code=Exit.LOGGED_OUT, keys=("login.refresh",))
    if after is None:
        return StepResult(f"{did}; no cookie says when the login expires")
    if before is not None and after <= before:
        mark: Mark = "ok" if how.before_expiry_s is None else "warn"
        return StepResult(f"{did}; the login expires {_minute(after)} by its cookies, as before", mark)
    return StepResult(f"{did}; the login expires {_minute(after)} by its cookies")


async def _expires_at(context: CheckContext) -> float | None:
    """Return when the login expires by the cookies that the browser has now, in Unix seconds."""
    state = {"cookies": await within(CHECK_TIMEOUT_S, context.opened.context.cookies(), "check-cookies")}
    ends = ProfileSummary.of(login_part(state, context.site.login.expires_by))
    return ends.expires_at(time.time(), urlsplit(context.site.url).hostname)


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


async def without_login(context: CheckContext) -> StepResult:
    """Open the page once more without the login: its loss must show."""
    site = context.site
    if site.login.none:
        return StepResult("the site has no login that could be lost", "skip")
    if not site.login.logged_out:
        return StepResult("the file has no login.logged_out: a lost login will look like a broken page", "warn")
    other = await SitePage.in_new_context(context.opened.browser, site, surroundings=context.opened.surroundings)
    try:
        tab = await other.open_tab()
        await tab.load()
        login = await other.wait_for_login()
        hints = [f"the page: {await page_facts.where(tab.page)}"]
        hints += await page_facts.markers(tab.page, "logged_in", site.login.logged_in)
        hints += await page_facts.markers(tab.page, "logged_out", site.login.logged_out)
    finally:
        await other.context.close()
    if login == "in":
        raise StepFailed("without the login, too, the page counts as logged in", *hints)
    if login == "unknown":
        keys = tuple(f"login.logged_out.{at}" for at in range(len(site.login.logged_out)))
        raise StepFailed("without the login the page shows no marker of being logged out", *hints, keys=keys)
    return StepResult("without the login the page shows that it is logged out")


async def test_capture(context: CheckContext) -> StepResult:
    """Find out whether the page's traffic can be read."""
    mode = await context.opened.test_capture()
    if mode == "network":
        return StepResult("the hook is in the page and reaches us: answers are read from the page's traffic")
    if context.site.capture.network:
        return StepResult("the page keeps the hook from reaching us: answers are read from the page itself", "warn")
    return StepResult("answers are read from the page itself, as the file says")
