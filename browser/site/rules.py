"""What is wrong with a site file though each key in it is right: keys that contradict each other, or do nothing.

Each rule here is about something that could never work, whatever the page does; what may work on some page is left
to `browser.check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from browser.site.expressions import problem_of
from browser.site.schema import (
    EXPRESSION_KEYS,
    PLACEHOLDER,
    Action,
    Actions,
    Login,
    Marker,
    Network,
    Refresh,
    Refusal,
    Site,
)
from browser.site.values import is_of_kind
from contract.toml_lines import Path

_REQUESTS = ("sse", "jsonl")  # the kinds of capture.network that are the body of a request
_WAITS = ("wait_for", "wait_gone")
_FINDS_TEXT = ("text", "whole", "reasoning", "reasoning_whole")
_FINDS_DATA = ("document", "changes", "message", "begins")
_SEES_DOCUMENT = ("message", "begins", *_FINDS_TEXT, "end_after", "end")


@dataclass(frozen=True)
class Problem:
    """What is wrong with the key at a path, or with the table there."""

    path: Path
    message: str


def problems(site: Site) -> Iterator[Problem]:
    """Yield what is wrong with the file as a whole."""
    yield from _login(site.login)
    if site.login.refresh:
        yield from _refresh(site, site.login.refresh)
    yield from _steps(site)
    if site.fresh_chat.answers and site.capture.dom is None:
        yield Problem(("fresh_chat", "answers"), "needs capture.dom, whose answer says what to count")
    if site.stop.actions and site.stop.answering is None:
        yield Problem(("stop",), "actions needs answering, which says whether there is an answer to stop")
    sent = site.send.prompt
    if sent and sent.json_path and (wrong := problem_of(sent.json_path, sees=None, key="json", finds="text")):
        yield Problem(("send", "prompt", "json"), wrong)
    if site.capture.network:
        yield from _network(site.capture.network)
    yield from _refusals(site)


def _login(login: Login) -> Iterator[Problem]:
    for name, listed in (("logged_in", login.logged_in), ("logged_out", login.logged_out)):
        for at, marker in enumerate(listed):
            if marker.selector is None and not (marker.url or "").strip("*"):
                yield Problem(("login", name, at, "url"), "matches every address, and so tells nothing")
            if marker in listed[:at]:
                yield Problem(("login", name, at), f"stands there twice; the first is {name}[{listed.index(marker)}]")
    for at, out in enumerate(login.logged_out):
        both = next((at_in for at_in, marker in enumerate(login.logged_in) if _implies(marker, out)), None)
        if both is not None:
            why = f"holds whenever logged_in[{both}] does: no page would count as logged in by that"
            yield Problem(("login", "logged_out", at), why)


def _refresh(site: Site, refresh: Refresh) -> Iterator[Problem]:
    path: Path = ("login", "refresh")
    for key in ("visit", "fetch"):
        yield from _begins_with_host(site, (*path, key), getattr(refresh, key))
    for at, marker in enumerate(refresh.done):
        if marker.selector is None and not (marker.url or "").strip("*"):
            yield Problem((*path, "done", at, "url"), "matches every address, and so tells nothing")


def _implies(marker: Marker, other: Marker) -> bool:
    """Return whether the other one holds wherever this one does."""
    return other.selector in (None, marker.selector) and other.url in (None, marker.url)


def _steps(site: Site) -> Iterator[Problem]:
    lists: list[tuple[Path, Actions]] = [
        (("fresh_chat", "actions"), site.fresh_chat.actions),
        (("send", "actions"), site.send.actions),
        (("stop", "actions"), site.stop.actions),
    ]
    if site.login.refresh:
        lists.insert(0, (("login", "refresh", "steps"), site.login.refresh.steps))
    do_something = lists[:]
    if site.upload:
        lists.append((("upload", "actions"), site.upload.actions))
    keep_the_page = [(path, actions) for path, actions in lists if path[0] in ("send", "upload")]
    chosen = [(("models", at, "choose"), model.choose) for at, model in enumerate(site.model_choices)]
    for path, actions in (*lists, *chosen):
        for at, action in enumerate(actions):
            yield from _step(site, (*path, at), action)
    for path, actions in do_something:
        if actions and all(action.verb in _WAITS for action in actions):
            yield Problem(path, "only waits: needs a step that does something")
    for path, actions in keep_the_page:
        if at_goto := [at for at, action in enumerate(actions) if action.goto]:
            yield Problem((*path, at_goto[0], "goto"), "opens another page, and what was entered is lost")


def _step(site: Site, path: Path, action: Action) -> Iterator[Problem]:
    known = {"model"} if path[0] == "models" else set()
    for key in ("goto", "value", action.verb):
        text = getattr(action, key) or ""
        names = [name for name in PLACEHOLDER.findall(text) if name not in known]
        # In a selector and the like braces may be text.
        if names and (key in ("goto", "value") or names[0] == "model"):
            where = "{model} alone is known here" if known else "{model} is known in models.choose, and nothing else"
            yield Problem((*path, key), f"there is no placeholder {{{names[0]}}} here; {where}")
            return
    yield from _begins_with_host(site, (*path, "goto"), action.goto)


def _begins_with_host(site: Site, path: Path, address: str | None) -> Iterator[Problem]:
    parts = urlsplit(site.url)
    if address and address.partition("/")[0] in (parts.hostname, parts.netloc):
        yield Problem(path, f"begins with the site's host: needs {parts.scheme}:// before it, or / alone")


def _network(network: Network) -> Iterator[Problem]:
    path = ("capture", "network")
    over_websocket = network.kind not in _REQUESTS
    if not is_of_kind(network.url, websocket=over_websocket):
        schemes = "ws:// or wss://" if over_websocket else "http:// or https://"
        yield Problem(
            (*path, "url"), f"matches no address of kind = {network.kind!r}, which begins with {schemes}, or *"
        )
    if over_websocket and network.method:
        yield Problem((*path, "method"), "goes with kind = 'sse' and 'jsonl' only: a websocket has no method")
    if network.kind != "sse" and "event_names" in network.model_fields_set:
        yield Problem((*path, "event_names"), "goes with kind = 'sse' only: others have no names of events")
    for key in EXPRESSION_KEYS:
        expression: str | None = getattr(network, key)
        sees = {"data"} | ({"event"} if network.kind == "sse" else set())
        if network.document and key in _SEES_DOCUMENT:
            sees.add("document")
        finds = "text" if key in _FINDS_TEXT else "data" if key in _FINDS_DATA else "truth"
        if expression and (wrong := problem_of(expression, sees=sees, key=key, finds=finds)):
            yield Problem((*path, key), wrong)


def _refusals(site: Site) -> Iterator[Problem]:
    network, dom = site.capture.network, site.capture.dom
    has_body = bool(site.send.request or (network and network.kind in _REQUESTS))
    has_text = has_body or bool((network and network.error) or (dom and dom.error))
    for at, refusal in enumerate(site.refusals):
        path = ("refusals", at)
        if refusal.text is not None and not has_text:
            yield Problem(
                (*path, "text"), "is never seen: needs capture.network.error, capture.dom.error or send.request"
            )
        earlier = _first_that_covers(site.refusals[:at], refusal)
        if earlier is not None:
            yield Problem(path, f"never applies: refusals[{earlier}] does before, wherever this one would")


def _first_that_covers(earlier: Iterable[Refusal], refusal: Refusal) -> int | None:
    """Return the number of the first rule that applies wherever this one does."""
    for at, other in enumerate(earlier):
        says_no_other_status = other.status in (None, refusal.status)
        if says_no_other_status and (other.text or "").casefold() in (refusal.text or "").casefold():
            return at
    return None
