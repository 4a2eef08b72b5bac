"""The coordinator and `python -m coordinator.alerts` as processes, with a real receiver and canaries in settings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path

import pytest

from coordinator.alerts.alert import Alert, AlertKind
from coordinator.alerts.conditions import Key
from coordinator.alerts.state_file import StateFile
from coordinator.errors import SettingsError
from tests.coordinator.program import coordinator, environment, write_profile
from tests.support.ports import free_range
from tests.support.waiting import eventually
from tests.support.webhooks import SECRET, status, webhook_server, write_secret

CANARIES = ("canary-url-token", SECRET, SECRET.removeprefix("whsec_"), "secret-of-ada")
LOST, RECOVERED = ("login_lost", "ada", None), ("recovered", "ada", "login_lost")


async def test_a_coordinator_tells_what_happens_over_a_restart_and_shows_no_secret(tmp_path: Path) -> None:
    port = free_range(1)
    write_profile(tmp_path / "active", "ada")
    kept = tmp_path / "alerts.json"
    with webhook_server(port=port) as server:
        given = {
            "ALERT_URL": server.url,
            "ALERT_SECRET_FILE": str(write_secret(tmp_path)),
            "ALERT_STATE_FILE": str(kept),
            "LOG_LEVEL": "debug",
        }
        async with coordinator(tmp_path, **given) as running:
            await running.until_ready("ada")
            await running.behave("ada", unready="login_expired", detail="canary-detail")
            await eventually(lambda: server.told() == [LOST])
            # Saved as told and as sent: a coordinator that is killed before the second sends it again.
            saved = '"queued":[],"told":[{"kind":"login_lost","child":"ada"'
            await eventually(lambda: saved in kept.read_text(), what=kept.read_text)
            shown = [json.dumps((await running.ready())[1])]
            metrics = await running.metrics()
            shown.append(str(metrics))
            await eventually(lambda: running.events("alert_sent"))
            await running.end(signal.SIGKILL)

    # The receiver is away, and so is the coordinator; then only the coordinator comes back, with a login that is good.
    log = (tmp_path / "log").read_text()
    async with coordinator(tmp_path, **given) as running:
        await running.until_ready("ada")
        await eventually(lambda: running.events("alert_not_delivered"))
        assert await running.end() == 0
        (left,) = running.events("alerts_not_delivered")
        assert (left["queued"], left["kept"]) == ({"recovered": 1}, True)
        log += running.log.read_text()
    shown.append(kept.read_text())
    with webhook_server(port=port, kept=server):
        async with coordinator(tmp_path, **given) as running:
            await eventually(lambda: server.told() == [LOST, RECOVERED], what=server.told)
            assert await running.end() == 0
            log += running.log.read_text()
    assert server.wrong == []
    assert kept.stat().st_mode & 0o777 == 0o600
    webhooks = "".join(one.raw.decode() for one in server.received)
    assert "canary-detail" not in webhooks, "what a child says of itself may quote its page"
    for text in (log, *shown, webhooks):
        assert not [canary for canary in CANARIES if canary in text]


async def test_a_profile_that_is_not_accepted_any_more_is_a_lost_login(tmp_path: Path) -> None:
    for name in ("ada", "bob"):
        write_profile(tmp_path / "active", name)
    with webhook_server() as server:
        given = {"ALERT_URL": server.url, "ALERT_SECRET_FILE": str(write_secret(tmp_path))}
        async with coordinator(tmp_path, **given) as running:
            await running.until_ready("ada", "bob")
            # Bob is only taken away, and never was told of; a file that never was a child is none that was lost.
            (tmp_path / "active/bob.json").rename(tmp_path / "bob.json")
            write_profile(tmp_path / "active", "cyd")
            for name in ("ada", "new"):
                (tmp_path / f"active/{name}.json").write_text("{")
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: LOST in server.told())
            assert "rejected_profiles" in server.taken[0].body["data"]["message"]
            write_profile(tmp_path / "active", "ada")
            running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: server.told() == [LOST, RECOVERED], what=server.told)


DOWN_S = 60.0


@pytest.mark.long  # test_delivery.py shows the same of a sender alone, with delays of milliseconds
@pytest.mark.timeout(900)
async def test_a_receiver_that_is_down_for_a_minute_gets_every_alert(tmp_path: Path) -> None:
    """With the delays that the product has, and conditions that begin and end meanwhile."""
    port = free_range(1)
    names = ("ada", "bob", "cyd")
    for name in names:
        write_profile(tmp_path / "active", name)
    with contextlib.ExitStack() as first:
        server = first.enter_context(webhook_server(port=port))
        given = {"ALERT_URL": server.url, "ALERT_SECRET_FILE": str(write_secret(tmp_path))}
        async with coordinator(tmp_path, **given) as running:

            async def until_queued(**kinds: float) -> None:
                async with asyncio.timeout(300):
                    while (await running.metrics()).labels("tabfleet_alerts_queued") != kinds:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)

            await running.until_ready(*names)
            await running.behave("ada", unready="login_expired")
            await eventually(lambda: server.told() == [LOST])
            first.close()

            down_at = time.monotonic()
            await running.behave("bob", unready="quota", rest_s=3600)
            await until_queued(quota=1)
            # Another start meanwhile finds the page as broken.
            (running.evidence / "cyd.json").write_text(json.dumps({"unready": "page_broken"}))
            await running.behave("cyd", unready="page_broken")
            await until_queued(quota=1, page_changed=1, all_away=1)
            (running.evidence / "cyd.json").unlink()
            await running.behave("cyd", unready=None)
            write_profile(tmp_path / "active", "ada", "another-secret")
            running.process.send_signal(signal.SIGHUP)
            await until_queued(quota=1, page_changed=1, all_away=1, recovered=3)
            assert running.events("alert_not_delivered")
            await asyncio.sleep(max(0.0, down_at + DOWN_S - time.monotonic()))
            assert len(server.received) == 1

            with webhook_server(port=port, kept=server):
                await until_queued()
            metrics = await running.metrics()
            assert await running.end() == 0
    assert server.wrong == []  # each signature is good
    told = server.told()
    assert told[:2] == [LOST, ("quota", "bob", None)]
    assert set(told[2:4]) == {("page_changed", "cyd", None), ("all_away", None, None)}
    assert set(told[4:]) == {RECOVERED, ("recovered", "cyd", "page_changed"), ("recovered", None, "all_away")}
    assert len(told) == len({one.id for one in server.taken}) == 7
    assert metrics.sum("tabfleet_alerts_sent_total") == 7
    assert metrics.sum("tabfleet_alerts_dropped_total") == 0


async def test_metrics_count_what_is_sent_what_fails_and_what_waits(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    with webhook_server() as server:
        server.answers.extend([status(500), status(503, retry_after="3600")])
        given = {"ALERT_URL": server.url, "ALERT_SECRET_FILE": str(write_secret(tmp_path))}
        async with coordinator(tmp_path, **given) as running:
            await running.until_ready("ada")
            await running.behave("ada", unready="login_expired")
            await eventually(lambda: len(server.received) == 2)
            text = ""
            while 'tabfleet_alert_failures_total{kind="login_lost"} 2.0' not in text:
                text = (await running.http.get("/metrics", headers={"authorization": "Bearer test-key"})).text
            assert 'tabfleet_alerts_sent_total{kind="login_lost"} 0.0' in text
            assert 'tabfleet_alerts_queued{kind="login_lost"} 1.0' in text
            # Its end does not wait for the hour that the receiver asked for.
            assert await running.end() == 0
        assert server.told() == [LOST]


# Sending a test

DELIVERED, FAILED, WRONG_SETTING = 0, 1, 2


async def alerts(
    tmp_path: Path, *arguments: str, module: str = "coordinator.alerts", **given: str
) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        env=environment(tmp_path, **given),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, said.decode()


async def test_a_test_alert_is_sent_and_what_came_back_is_said(tmp_path: Path) -> None:
    secret = write_secret(tmp_path)
    with webhook_server() as server:
        flag = f"--alert-secret-file={secret}"
        assert await alerts(tmp_path, "test", flag, ALERT_URL=server.url) == (
            DELIVERED,
            "delivered: the receiver answered HTTP 204\n",
        )
        server.answers.append(status(403))
        assert await alerts(tmp_path, "test", flag, ALERT_URL=server.url) == (
            FAILED,
            "not delivered: the receiver answered HTTP 403 Forbidden\n",
        )
    (body,) = (one.body for one in server.taken)
    assert body["type"] == "test"
    code, said = await alerts(tmp_path, "test", flag, ALERT_URL=server.url)
    assert (code, said) == (FAILED, "not delivered: the receiver does not accept connections\n")


async def test_a_wrong_setting_is_a_line_with_its_name_and_without_its_value(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("canary-secret")
    cases = {
        "ALERT_URL is not set": {},
        "ALERT_URL needs ALERT_SECRET_FILE": {"ALERT_URL": "https://hooks.example/canary"},
        "ALERT_URL: got a value": {"ALERT_URL": "hooks.example/canary"},
        "ALERT_SECRET_FILE: line 1": {"ALERT_URL": "https://hooks.example/canary", "ALERT_SECRET_FILE": str(wrong)},
    }
    for begins, given in cases.items():
        code, said = await alerts(tmp_path, "test", **given)
        assert code == WRONG_SETTING
        assert said.startswith(f"error: {begins}")
        assert said.count("\n") == 1
        assert "canary" not in said


async def test_a_coordinator_does_not_start_with_what_it_cannot_sign_with(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    wrong = tmp_path / "wrong"
    wrong.write_text("whsec_canary")
    given = {"ALERT_URL": "https://hooks.example/canary", "ALERT_SECRET_FILE": str(wrong)}
    code, said = await alerts(tmp_path, module="coordinator.main", **given)
    (line,) = said.splitlines()
    assert code == WRONG_SETTING
    assert line.startswith("tabfleet: ALERT_SECRET_FILE: line 1 is no secret; it takes whsec_ and the base64")
    assert "canary" not in line


# What outlives the coordinator


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    file = StateFile(path)
    assert (file.queued, file.told) == ((), {})
    alert = Alert(AlertKind.ALL_AWAY, 1.7e9, {"children": {"FAILED": 2}})
    told = {
        Key(AlertKind.ALL_AWAY): 1.7e9,
        Key(AlertKind.PAGE_CHANGED, site="demo"): 1.6e9,
        Key(AlertKind.QUOTA, "ümlaut"): 0.0,
    }
    file.write((alert,), told)
    again = StateFile(path)
    assert (again.queued, again.told) == ((alert,), told)
    assert again.queued[0].body() == alert.body()


@pytest.mark.parametrize(
    "content", ["", "{}", "test-key role=operate\n", '{"tabfleet_alerts":2,"queued":[],"told":[]}']
)
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "alerts.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=r"^ALERT_STATE_FILE: the file is damaged, or of another program"):
        StateFile(path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^ALERT_STATE_FILE: the file cannot be written: No such file") as caught:
        StateFile(tmp_path / "missing" / "alerts.json")
    assert str(tmp_path) not in str(caught.value)
