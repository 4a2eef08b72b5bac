"""The steps of a check in their order, and how one is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from playwright.async_api import Error

from browser.check import steps_answer, steps_open, steps_prompt
from browser.check.context import CheckContext
from browser.check.outcome import Exit, StepFailed, StepResult, exit_code_of
from browser.errors import BrowserError, BrowserLost, SiteUnreachable


@dataclass(frozen=True)
class Step:
    """One step; `keys` are what to look at in the site file when it fails.

    `beside` tells that it may be done beside a page in service too: it needs no browser of its own, and changes nothing
    about the login.
    """

    name: str
    work: Callable[[CheckContext], Awaitable[StepResult]]
    keys: tuple[str, ...] = ()
    beside: bool = False


OPENING = (
    Step("login file", steps_open.read_login),
    Step("browser", steps_open.start_browser),
    Step("page", steps_open.open_page, ("url",), beside=True),
    Step("logged in", steps_open.logged_in, ("login.logged_in", "login.logged_out", "readiness.selector"), beside=True),
    Step("login check", steps_open.check_login, ("login.check",), beside=True),
    # Not beside a page in service: each check would spend a refresh of a live login.
    Step("login refresh", steps_open.refresh, ("login.refresh",)),
    Step("logged out", steps_open.without_login, ("login.logged_in", "login.logged_out"), beside=True),
    Step("capture", steps_open.test_capture, ("capture",), beside=True),
    Step("fresh chat", steps_prompt.fresh_chat, ("fresh_chat",), beside=True),
    Step("models", steps_prompt.choose_models, ("models",), beside=True),
    Step("input", steps_prompt.fill, ("input",), beside=True),
)
SENDING = (
    Step("send", steps_prompt.send, ("send",), beside=True),
    Step("first event", steps_answer.first_event, ("capture.network.url", "capture.dom.answer"), beside=True),
    Step(
        "first text",
        steps_answer.first_text,
        ("capture.network.start", "capture.network.text", "capture.network.whole", "capture.dom.answer"),
        beside=True,
    ),
    Step("end", steps_answer.end, ("capture.network.end", "capture.network.end_data", "capture.dom.done"), beside=True),
    Step("sent prompt", steps_prompt.sent_prompt, ("send.prompt",), beside=True),
    Step(
        "page's text",
        steps_answer.page_text,
        ("capture.dom.answer", "capture.dom.ignore", "capture.dom.read"),
        beside=True,
    ),
    Step("fresh again", steps_prompt.fresh_chat, ("fresh_chat",), beside=True),
    Step("stop", steps_answer.stop, ("stop.answering", "stop.actions")),
    Step("fresh again", steps_prompt.fresh_chat, ("fresh_chat",), beside=True),
)

UNSENT = (Step("send is there", steps_prompt.send_is_there, ("send",), beside=True),)
"""What takes the place of SENDING where nothing is to be sent."""

# Some failures can come in any step, and are not about its keys.
_KEYS_OF: dict[Exit, tuple[str, ...]] = {
    Exit.REFUSED: ("refusals",),
    Exit.LOGGED_OUT: ("login.logged_in", "login.logged_out", "login.check", "login.lost"),
    Exit.BROWSER_LOST: (),
    Exit.PROFILE_LOCKED: (),
    Exit.NO_BROWSER: (),
}


async def run_step(context: CheckContext, step: Step) -> StepResult:
    """Return what a step has to say. Raises StepFailed, whose keys are those to look at: the step's own if none."""
    try:
        return await step.work(context)
    except StepFailed as failure:
        error = failure
    except BrowserError as lost:
        error = _of_browser(lost)
    except Error as of_playwright:
        error = StepFailed(of_playwright.message.splitlines()[0])
    # A browser that died fails whatever step it is in; the site file is not to blame for that.
    if error.code is Exit.FAILED and context.host and await context.host.is_lost_soon():
        error = _of_browser(BrowserLost("the browser died"))
    about_login = any(key.startswith("login.") for key in step.keys)
    error.keys = error.keys or (step.keys if about_login else _KEYS_OF.get(error.code, step.keys))
    raise error from None


def _of_browser(error: BrowserError) -> StepFailed:
    return StepFailed(str(error), code=exit_code_of(error), site_is_away=isinstance(error, SiteUnreachable))
