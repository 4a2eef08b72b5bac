"""Derive the bare script's plan and steps from the product's launch options and site file."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.pages.bare_script import ScriptPlan, ScriptSteps
from benchmarks.pages.timestamped_app import TimestampedApp
from browser.process.engine import Launch, find_executable, launch_options
from browser.settings import BrowserSettings, EngineName
from browser.site.schema import Actions, Site
from tests.support.ports import NOWHERE


def plan(app: TimestampedApp, engine: EngineName) -> ScriptPlan:
    """Return a plan with a child's launch options, and a login of its own."""
    site, settings = app.site(), BrowserSettings(https_proxy=NOWHERE)
    executable = find_executable(engine, settings)
    launch = launch_options(Launch(engine, executable, executable, True, {}, settings))
    del launch["env"]
    launch["executable_path"] = str(executable)
    marker = next(marker.selector for marker in site.login.logged_in if marker.selector)
    selectors = [marker, *filter(None, [site.readiness.selector])]
    return ScriptPlan(engine, launch, app.log_in(), site.url, selectors)


def steps(site: Site) -> ScriptSteps:
    """Return the site file's steps for its first model."""
    model = site.model_choices[0]
    fresh, choose, send = (
        _as_given(actions, site, model.name) for actions in (site.fresh_chat.actions, model.choose, site.send.actions)
    )
    return ScriptSteps(fresh, choose, send, site.input.selector, site.stop.answering or "")


def _as_given(actions: Actions, site: Site, model: str) -> Sequence[dict[str, str]]:
    given = []
    for action in actions:
        step = {
            key: str(value).replace("{model}", model) for key, value in action.model_dump(exclude_unset=True).items()
        }
        if "goto" in step:
            step["goto"] = site.address(step["goto"])
        given.append(step)
    return given
