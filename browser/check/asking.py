"""The steps of a prompt and its answer."""

from contextlib import suppress

from browser.check import looking
from browser.check.outcome import StepFailed, Told
from browser.check.reading import Reading
from browser.check.stage import Stage
from browser.check.traffic import plain
from browser.errors import BrowserError, PageBroken, PageHung
from browser.page.completion import Completion
from browser.site.schema import Action, Actions, Model


async def run_actions(stage: Stage, actions: Actions, *, model: str = "") -> None:
    """Do steps one by one. Raises StepFailed, which says what the failing one's selector finds."""
    for step in actions:
        try:
            await stage.tab.run((step,), model=model)
        except PageBroken as error:
            raise StepFailed(str(error), *await _explain(stage, step)) from None


async def _explain(stage: Stage, step: Action) -> list[str]:
    return await looking.action(stage.tab.page, step, stage.site.input.selector)


async def fresh_chat(stage: Stage) -> Told:
    site, tab = stage.site, stage.tab
    await run_actions(stage, site.fresh_chat.actions)
    try:
        await tab.wait_fresh()
    except PageBroken as error:
        raise StepFailed(str(error), *await _not_fresh(stage)) from None
    if not await stage.capture.wait_connected(tab.page):
        return Told("open, but no websocket sent what capture.network.ready_frames waits for", "warn")
    return Told(f"an empty conversation is open ({_steps(site.fresh_chat.actions)})")


async def _not_fresh(stage: Stage) -> list[str]:
    site, hints = stage.site, []
    look = None
    with suppress(PageHung):
        look = await stage.tab.look()
    if look is None:
        return ["the page does not answer"]
    if look.answers != site.fresh_chat.answers and site.capture.dom:
        hints.append(
            f"capture.dom.answer {site.capture.dom.answer!r} finds {look.answers}, expected {site.fresh_chat.answers} "
            "(fresh_chat.answers)"
        )
    if look.answering:
        hints.append(f"stop.answering {site.stop.answering!r} is there: the page counts as still answering")
    if look.error is not None:
        hints.append(f"the page shows an error: {plain(look.error)}")
    if not look.usable:
        hints += await looking.markers(stage.tab.page, "logged_in", site.login.logged_in)
        if ready := site.readiness.selector:
            hints.append(f"readiness: {ready!r} {await looking.css(stage.tab.page, ready)}")
    return hints


def _steps(actions: Actions) -> str:
    return f"{len(actions)} step{'' if len(actions) == 1 else 's'}"


async def choose_models(stage: Stage) -> Told:
    """Choose each of the models, the one that is asked last."""
    asked = stage.model
    others = [model for model in stage.site.model_choices if model is not asked]
    for model in (*others, asked):
        await _choose(stage, model)
    names = ", ".join(stage.site.models)
    if not any(model.choose for model in stage.site.model_choices):
        return Told(f"{names}: nothing to choose", "skip")
    return Told(f"chosen one after the other: {names}; the prompt goes to {asked.name}")


async def _choose(stage: Stage, model: Model) -> None:
    try:
        await run_actions(stage, model.choose, model=model.name)
    except StepFailed as error:
        raise StepFailed(f"model {model.name}: {error}", *error.hints) from None


def new_turn(stage: Stage) -> Completion:
    return Completion(tab=stage.tab, capture=stage.capture, settings=stage.plan.settings, mark_submitted=lambda: None)


async def fill(stage: Stage) -> Told:
    stage.turn = new_turn(stage)
    prompt, field = stage.plan.prompt, stage.site.input
    try:
        method = await stage.turn.enter(prompt)
    except BrowserError as error:
        hint = f"input.selector {field.selector!r} {await looking.css(stage.tab.page, field.selector)}"
        raise StepFailed(str(error), hint, f"tried: {', '.join(field.methods)}") from None
    return Told(f"holds exactly the prompt of {len(prompt)} characters, by the method {method!r}")


async def send(stage: Stage) -> Told:
    if stage.traffic:
        stage.traffic.mark()
    stage.events.begin()
    turn = stage.turn
    if turn is None:
        raise RuntimeError("nothing was entered")
    actions = stage.site.send.actions
    try:
        await turn.send()
    except PageBroken as error:
        hints = [hint for step in actions for hint in await _explain(stage, step)]
        raise StepFailed(str(error), *hints) from None
    stage.reading = Reading(stage.tab, turn)
    return Told(f"sent ({_steps(actions)})")
