"""Each class of failure end to end: what the client gets, what becomes of the child, what metrics and log say.

One coordinator over one fake child for each class; each child alone serves the model that has its name.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.coordinator.program import KEY, Running, coordinator, write_profile
from tests.coordinator.proxy.proxied import chat
from tests.support.metrics import Metrics
from tests.support.ports import free_range
from tests.support.waiting import eventually

CAME_BACK = [("STARTING", "starting"), ("READY", None)]
LEFT_ALONE = ()


@dataclass(frozen=True)
class Failure:
    """What goes wrong, and everything that is to come of it."""

    code: str  # the error that the client gets
    request: dict[str, Any]  # what the child does with the request
    status: int | None = None  # of the answer; None: an error event at the end of a stream that has begun
    child: dict[str, Any] = field(default_factory=dict)  # what it does afterwards, without a request
    moves: Sequence[tuple[str, str | None]] = ()  # of the child, with the reasons
    restarts: str | None = None  # the cause of the one restart
    outcome: str = "failed"
    unexpected_exit: bool = False

    @property
    def stream(self) -> bool:
        return self.status is None


FAILURES = {
    "crash": Failure(
        code="child_lost",
        request={"die_after": 2},
        moves=[("BACKOFF", "killed"), *CAME_BACK],
        restarts="killed",
        unexpected_exit=True,
    ),
    "browser-lost": Failure(
        code="browser_lost",
        request={"site_error": "browser_lost"},
        status=502,
        child={"exit_code": 70},
        moves=[("BACKOFF", "browser_lost"), *CAME_BACK],
        restarts="browser_lost",
        unexpected_exit=True,
    ),
    "driver-lost": Failure(
        code="browser_lost",
        request={"site_error": "browser_lost"},
        status=502,
        child={"exit_code": 71},
        moves=[("BACKOFF", "driver_lost"), *CAME_BACK],
        restarts="driver_lost",
        unexpected_exit=True,
    ),
    "page-broken": Failure(
        code="page_broken",
        request={"site_error": "page_broken"},
        status=502,
        child={"unready": "page_broken", "detail": "the input is not there"},
        moves=[
            ("UNHEALTHY", "page_broken"),
            ("STOPPING(BACKOFF)", "unhealthy_timeout"),
            ("BACKOFF", "unhealthy_timeout"),
            *CAME_BACK,
        ],
        restarts="unhealthy_timeout",
    ),
    "site-away": Failure(
        code="site_unreachable",
        request={"site_error": "site_unreachable"},
        status=502,
        child={"unready": "site_unreachable"},
        moves=[("UNHEALTHY", "site_unreachable")],
    ),
    "proxy-away": Failure(
        code="proxy_unreachable",
        request={"site_error": "proxy_unreachable"},
        status=502,
        child={"unready": "proxy_unreachable", "detail": "the login's proxy refuses connections; does it run?"},
        moves=[("UNHEALTHY", "proxy_unreachable")],
    ),
    "login-expired": Failure(
        code="login_expired",
        request={"site_error": "login_expired"},
        status=502,
        child={"unready": "login_expired"},
        moves=[(f"{state}(FAILED)", "login_expired") for state in ("DRAINING", "STOPPING")]
        + [("FAILED", "login_expired")],
    ),
    "quota": Failure(
        code="quota",
        request={"site_error": "quota"},
        status=502,
        child={"unready": "quota", "rest_s": 0.5},
        moves=[
            *((f"{state}(RESTING)", "quota") for state in ("DRAINING", "STOPPING")),
            ("RESTING", "quota"),
            ("STANDBY", "waiting_for_slot"),
            *CAME_BACK,
        ],
        restarts="quota",
        outcome="refused",
    ),
    "no-first-token": Failure(
        code="first_token_timeout", request={"stall_after": 0, "keeps_limits": True}, status=504, moves=LEFT_ALONE
    ),
    "idle-stream": Failure(
        code="stream_idle_timeout", request={"stall_after": 2, "keeps_limits": True}, moves=LEFT_ALONE
    ),
    "refused-by-the-site": Failure(
        code="refused", request={"site_error": "refused"}, status=400, moves=LEFT_ALONE, outcome="refused"
    ),
    "error-of-the-site": Failure(code="site_error", request={"fail_after": 2}, moves=LEFT_ALONE),
}
SLOW = "slow"
UNHEALTHY_TIMEOUT_S = 1.0


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("failures")
    names = [*FAILURES, SLOW]
    (folder / "evidence").mkdir()
    for name in names:
        write_profile(folder / "active", name)
        (folder / f"evidence/{name}.json").write_text(json.dumps({"models": [name]}))
    base = free_range(2 * len(names))
    limits = {
        "BASE_API_PORT": str(base),
        "BASE_STREAM_PORT": str(base + len(names)),
        "PROBE_INTERVAL_S": "0.1",
        "UNHEALTHY_TIMEOUT_S": f"{UNHEALTHY_TIMEOUT_S:g}",
        "BACKOFF_MAX_S": "0.1",
        "FIRST_TOKEN_TIMEOUT_S": "1",
        "STREAM_IDLE_TIMEOUT_S": "1",
    }
    async with coordinator(folder, **limits) as program:
        await program.until_ready(*names)
        yield program


async def ask(running: Running, model: str, behaviour: dict[str, Any], *, stream: bool) -> httpx.Response:
    body = chat("a prompt that no log may hold", model=model, stream=stream, fake=behaviour)
    headers = {**KEY, "content-type": "application/json"}
    return await running.http.post("/v1/chat/completions", content=body, headers=headers, timeout=60)


def restarts(metrics: Metrics) -> dict[str, float]:
    return metrics.labels("tabfleet_child_restarts_total")


@pytest.mark.parametrize("name", FAILURES)
async def test_each_failure_has_its_error_reason_metric_and_log_event(running: Running, name: str) -> None:
    failure = FAILURES[name]
    before, moves_before = await running.metrics(), len(running.moves(name))
    answer = await ask(running, name, failure.request, stream=failure.stream)
    if failure.child:
        await running.behave(name, **failure.child)

    # What the client gets.
    if failure.stream:
        assert answer.status_code == 200
        *tokens, last = [event for event in answer.text.split("\n\n") if event]
        assert tokens
        error = json.loads(last.removeprefix("data: "))["error"]
    else:
        assert (answer.status_code, answer.headers["x-should-retry"]) == (failure.status, "false")
        error = answer.json()["error"]
    assert error["code"] == failure.code
    assert "[DONE]" not in answer.text

    # What becomes of the child.
    await eventually(
        lambda: running.moves(name)[moves_before:] == list(failure.moves),
        timeout_s=30,
        what=lambda: running.moves(name)[moves_before:],
    )
    child = await running.child(name)
    assert child["restarts"] == (1 if failure.restarts else 0)
    assert child["reason"] == (failure.moves[-1][1] if failure.moves else None)

    # What the metrics count.
    after = await running.metrics()
    requests = {"outcome": failure.outcome, "code": failure.code}
    counted = "tabfleet_requests_total"
    assert after.sum(counted, **requests) - before.sum(counted, **requests) == 1
    expected = {failure.restarts: restarts(before).get(failure.restarts, 0) + 1} if failure.restarts else {}
    assert restarts(after) == {**restarts(before), **expected}
    for state, reason in failure.moves:
        moved = {"state": state.partition("(")[0], "reason": reason or ""}
        changes = "tabfleet_child_state_changes_total"
        assert after.sum(changes, **moved) > before.sum(changes, **moved)

    # What the log says, beside the states.
    request_id = answer.headers["x-request-id"]
    (event,) = [e for e in running.events() if e.get("request") == request_id and e["event"] in REQUEST_EVENTS]
    assert failure.code in (event.get("code"), "child_lost")
    exits = [(e["reason"], e["expected"]) for e in running.events("child_exited") if e["child"] == name]
    assert (failure.restarts, False) in exits if failure.unexpected_exit else (name, False) not in exits
    assert "a prompt that no log may hold" not in running.log.read_text()


REQUEST_EVENTS = ("not_answered", "answer_broken", "answer_interrupted")


async def test_a_slow_answer_does_not_make_a_child_unhealthy(running: Running) -> None:
    """It takes much longer than an unhealthy child would be left alone, and than any silence would be borne."""
    slow = {"tokens": 6, "token_s": 0.5}
    answer = await ask(running, SLOW, slow, stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert answer.elapsed.total_seconds() > 2 * UNHEALTHY_TIMEOUT_S
    child = await running.child(SLOW)
    assert (child["state"], child["restarts"]) == ("READY", 0)
    assert running.moves(SLOW) == [("STARTING", "starting"), ("READY", None)]


async def test_metrics_ready_and_log_agree_in_the_end(running: Running) -> None:
    """Runs last: `/metrics`, `/ready` and the log agree on how everything ended."""
    metrics, (status, body) = await running.metrics(), await running.ready()
    assert status == 200
    assert body["unhealthy"] == ["login-expired", "proxy-away", "site-away"]
    states = [child["state"] for child in body["children"]]
    assert metrics.labels("tabfleet_children") == {state: states.count(state) for state in set(states)}
    assert metrics.sum("tabfleet_child_starts_total") == len(running.events("child_started"))
    assert sum(restarts(metrics).values()) == sum(child["restarts"] for child in body["children"])
    assert metrics.sum("tabfleet_leases_held") == metrics.sum("tabfleet_queue_length") == 0
