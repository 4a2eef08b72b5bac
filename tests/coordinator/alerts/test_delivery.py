"""Alerts that reach a real receiver at least once and in order, whatever it does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contract.proxies import parse_no_proxy, parse_proxy
from coordinator.alerts.alert import Alert, AlertKind
from coordinator.alerts.alerts import Alerts
from coordinator.alerts.conditions import Key
from coordinator.alerts.receiver import Outcome, Receiver
from coordinator.alerts.sender import Patience, Sender
from coordinator.alerts.signature import read_secrets
from coordinator.alerts.state_file import StateFile
from coordinator.errors import SettingsError
from tests.support.authority import Authority
from tests.support.ports import free_range
from tests.support.waiting import HANG_LIMIT_S, eventually
from tests.support.webhooks import (
    Answer,
    WebhookServer,
    closes,
    endless,
    hangs,
    not_http,
    status,
    webhook_server,
    write_secret,
)

QUICK = Patience(first_s=0.01, longest_s=0.05)


@dataclass
class Counted:
    sent: Counter[AlertKind] = field(default_factory=Counter)
    failed: Counter[AlertKind] = field(default_factory=Counter)
    dropped: Counter[tuple[AlertKind, str]] = field(default_factory=Counter)

    def alert_sent(self, kind: AlertKind) -> None:
        self.sent[kind] += 1

    def alert_failed(self, kind: AlertKind) -> None:
        self.failed[kind] += 1

    def alert_dropped(self, kind: AlertKind, why: str) -> None:
        self.dropped[kind, why] += 1


@dataclass
class Sending:
    sender: Sender
    counts: Counted
    task: asyncio.Task[None]

    def lost(self, *names: str) -> None:
        for name in names:
            self.sender.put(Alert(AlertKind.LOGIN_LOST, 1.7e9, {"child": name}))

    async def ended(self) -> None:
        self.sender.end()
        await asyncio.wait_for(self.task, HANG_LIMIT_S)


@contextlib.asynccontextmanager
async def sending(
    url: str, folder: Path, patience: Patience = QUICK, answer_timeout_s: float = 5.0
) -> AsyncIterator[Sending]:
    receiver, counts = Receiver(url, read_secrets(write_secret(folder)), answer_timeout_s=answer_timeout_s), Counted()
    sender = Sender(receiver, counts, patience=patience)
    task = asyncio.create_task(sender.run())
    try:
        yield Sending(sender, counts, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await sender.close()


def names(server: WebhookServer) -> list[str]:
    return [one.body["data"]["child"] for one in server.taken]


async def test_alerts_come_in_order_signed_with_an_id_of_their_own(tmp_path: Path) -> None:
    with webhook_server() as server:
        async with sending(server.url, tmp_path) as s:
            s.lost(*map(str, range(30)))
            await eventually(lambda: len(server.taken) == 30)
            # The receiver has the last one a moment before it is counted.
            await eventually(lambda: s.counts.sent == {AlertKind.LOGIN_LOST: 30}, what=lambda: s.counts.sent)
    assert names(server) == list(map(str, range(30)))
    assert len({one.id for one in server.taken}) == 30
    assert server.wrong == []
    assert {one.path for one in server.taken} == {"/hook?token=canary-url-token-1d77"}


FAULTS: dict[str, list[Answer]] = {
    "errors": [status(500), status(502), status(404), status(410)],
    "too many requests": [status(429, retry_after="0"), status(503, retry_after="nonsense")],
    "redirects": [status(307, location="http://127.0.0.1:1/other"), status(301, location="/same")],
    "closes": [closes, closes],
    "speaks no HTTP": [not_http],
    "hangs": [hangs],
    "refuses twice": [status(400), status(422)],
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_alert_is_sent_until_it_is_taken_and_none_overtakes_it(tmp_path: Path, fault: str) -> None:
    with webhook_server() as server:
        server.answers.extend(FAULTS[fault])
        async with sending(server.url, tmp_path, answer_timeout_s=0.5) as s:
            s.lost("first", "second", "third")
            await eventually(lambda: len(server.taken) == 3)
    assert names(server) == ["first", "second", "third"]
    tries = [one for one in server.received if one.body["data"]["child"] == "first"]
    assert len(tries) == len(FAULTS[fault]) + 1
    assert len({one.id for one in tries}) == 1, "a receiver tells by the id that it has it already"
    assert s.counts.failed == {AlertKind.LOGIN_LOST: len(FAULTS[fault])}
    assert not s.counts.dropped


async def test_a_body_without_end_is_not_waited_for(tmp_path: Path) -> None:
    with webhook_server() as server:
        server.answers.append(endless)
        async with sending(server.url, tmp_path, answer_timeout_s=HANG_LIMIT_S) as s:
            s.lost("first", "second")
            await eventually(lambda: len(server.taken) == 2)
    assert s.counts.failed == {}


async def test_a_receiver_that_is_away_for_a_while_gets_all_of_it_in_order(tmp_path: Path) -> None:
    port = free_range(1)
    with webhook_server(port=port) as before:
        async with sending(before.url, tmp_path) as s:
            s.lost("a")
            await eventually(lambda: names(before) == ["a"])
    async with sending(before.url, tmp_path) as s:
        s.lost("b", "c", "d")
        await eventually(lambda: s.counts.failed[AlertKind.LOGIN_LOST] >= 3)
        s.lost("e")
        with webhook_server(port=port, kept=before):
            await eventually(lambda: len(before.taken) == 5)
    assert names(before) == ["a", "b", "c", "d", "e"]


async def test_one_that_the_receiver_calls_wrong_does_not_hold_up_the_others_for_ever(tmp_path: Path) -> None:
    with webhook_server() as server:
        server.answers.extend([status(422)] * 5)
        async with sending(server.url, tmp_path) as s:
            s.lost("wrong", "right")
            await eventually(lambda: names(server) == ["right"])
    assert s.counts.dropped == {(AlertKind.LOGIN_LOST, "refused"): 1}


@dataclass
class Faulty:
    """A destination with a fault of the program itself: the first alert makes it raise."""

    got: list[str] = field(default_factory=list)

    async def deliver(self, alert: Alert) -> Outcome:
        if alert.data["child"] == "first":
            raise RuntimeError("canary")
        self.got.append(alert.data["child"])
        return Outcome(204)

    async def close(self) -> None:
        raise RuntimeError("canary")


async def test_an_error_of_the_program_itself_does_not_end_the_sending() -> None:
    faulty, counts = Faulty(), Counted()
    sender = Sender(faulty, counts, patience=QUICK)
    s = Sending(sender, counts, asyncio.create_task(sender.run()))
    s.lost("first", "second")
    await eventually(lambda: faulty.got == ["second"])
    assert counts.dropped == {(AlertKind.LOGIN_LOST, "refused"): 1}
    await s.ended()
    await sender.close()


@dataclass
class Uncounting(Counted):
    """Counters with a fault of the program itself, where nothing catches it."""

    def alert_sent(self, kind: AlertKind) -> None:
        raise RuntimeError("canary")


class SlowFile(StateFile):
    """On a disk that takes its time, as long as `goes_on` is not set."""

    def __init__(self, path: Path) -> None:
        self.writes, self.goes_on = threading.Event(), threading.Event()
        self.goes_on.set()
        super().__init__(path)

    def write(self, queued: tuple[Alert, ...], told: dict[Key, float]) -> None:
        if not self.goes_on.is_set():
            self.writes.set()
            self.goes_on.wait(HANG_LIMIT_S)
        super().write(queued, told)


async def test_sending_that_ends_by_an_error_is_in_the_log_and_the_end_is_orderly() -> None:
    alerts = Alerts(Faulty(), Uncounting())
    with capture_logs() as logged:
        alerts.start()
        alerts.page_changed("demo", "demo.toml, line 12", child="ada")
        await eventually(lambda: [entry for entry in logged if entry["event"] == "alerting_failed"])
        await asyncio.wait_for(alerts.close(), HANG_LIMIT_S)
    assert [entry["task"] for entry in logged if entry["event"] == "alerting_failed"] == ["send alerts"]


async def test_what_changes_during_the_last_write_is_kept(tmp_path: Path) -> None:
    file = SlowFile(tmp_path / "alerts.json")
    alerts = Alerts(Faulty(), Counted(), state_file=file)
    alerts.start()
    file.goes_on.clear()
    alerts.page_changed("demo", "demo.toml, line 12")
    await eventually(file.writes.is_set)
    alerts.page_changed("other", "other.toml, line 5")
    closing = asyncio.create_task(alerts.close(HANG_LIMIT_S))
    await eventually(lambda: alerts._closing)
    file.goes_on.set()
    await closing
    assert [key.site for key in StateFile(tmp_path / "alerts.json").told] == ["demo", "other"]


async def test_at_the_end_what_is_left_is_sent_without_waiting_for_the_next_try(tmp_path: Path) -> None:
    with webhook_server() as server:
        server.answers.append(status(503, retry_after="3600"))
        async with sending(server.url, tmp_path) as s:
            s.lost("a", "b")
            await eventually(lambda: s.counts.failed)
            await s.ended()
    assert names(server) == ["a", "b"]


async def test_at_the_end_a_receiver_that_fails_is_not_asked_again(tmp_path: Path) -> None:
    with webhook_server() as server:
        server.answers.extend([status(500)] * 100)
        async with sending(server.url, tmp_path, Patience(first_s=3600.0)) as s:
            s.lost("a", "b")
            await eventually(lambda: s.counts.failed)
            await s.ended()
    assert len(server.received) <= 3
    assert s.sender.queued() == {AlertKind.LOGIN_LOST: 2}


async def test_a_full_queue_takes_nothing_new_but_the_end_of_what_was_told(tmp_path: Path) -> None:
    async with sending(f"http://127.0.0.1:{free_range(1)}/", tmp_path, Patience(most_queued=2)) as s:
        seen = [s.sender.has_room]
        s.lost("a", "b")
        assert [*seen, s.sender.has_room] == [True, False]
        s.sender.put(Alert(AlertKind.RECOVERED, 1.7e9, {"child": "a"}))
        assert s.sender.queued() == {AlertKind.LOGIN_LOST: 2, AlertKind.RECOVERED: 1}


NOW = 1.7e9


@pytest.mark.parametrize(
    ("text", "waits_s"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("999999999", 3600.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
        ("1e400", 0.0),
        ("²", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_an_hour_at_most(text: str, waits_s: float) -> None:
    assert Outcome.of(429, {"retry-after": text}, NOW).retry_after_s == pytest.approx(waits_s, abs=1)


@pytest.mark.parametrize("code", [200, 201, 204, 299])
def test_every_2xx_is_a_success(code: int) -> None:
    assert Outcome.of(code, {}, NOW).delivered


@pytest.mark.parametrize("code", [199, 300, 302, 307, 400, 401, 410, 429, 500, 599, 999])
def test_every_other_status_is_a_problem_that_is_named(code: int) -> None:
    outcome = Outcome.of(code, {}, NOW)
    assert not outcome.delivered
    assert f"HTTP {code}" in (outcome.problem or "")


# How an attempt is explained

TEST = Alert(AlertKind.TEST, NOW)


async def problem(
    folder: Path, url: str, proxy: str | None = None, ca: Path | None = None, no_proxy: str = ""
) -> str | None:
    receiver = Receiver(
        url,
        read_secrets(write_secret(folder)),
        proxy=parse_proxy(proxy) if proxy else None,
        no_proxy=parse_no_proxy(no_proxy),
        extra_ca_file=ca,
        answer_timeout_s=10.0,
    )
    try:
        return (await receiver.deliver(TEST)).problem
    finally:
        await receiver.close()


async def test_a_certificate_of_ones_own_authority_needs_its_file(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with webhook_server(certificate=authority.sign("127.0.0.1")) as server:
        said = await problem(tmp_path, server.url)
        assert said == "the receiver's certificate is not trusted; name its authority in EXTRA_CA_FILE"
        assert server.received == []
        authority.file.write_bytes(b"\xef\xbb\xbf" + authority.file.read_bytes())
        assert await problem(tmp_path, server.url, ca=authority.file) is None
        assert len(server.taken) == 1
        plain = server.url.replace("https://", "http://")
        assert await problem(tmp_path, plain) is not None


async def test_what_cannot_be_reached_is_told_in_words_without_the_address(tmp_path: Path) -> None:
    closed = free_range(1)
    with webhook_server() as server:
        said = {
            "closed port": await problem(tmp_path, f"http://127.0.0.1:{closed}/canary"),
            "no such name": await problem(tmp_path, "http://canary.invalid/"),
            "TLS to a plain port": await problem(tmp_path, server.url.replace("http://", "https://")),
            "closed proxy": await problem(tmp_path, "http://canary.example/", f"http://u:canary@127.0.0.1:{closed}"),
        }
        server.answers.append(status(307, location="http://canary.example/"))
        said["redirect"] = await problem(tmp_path, server.url)
    assert said["closed port"] == "the receiver does not accept connections"
    assert said["no such name"] == "the receiver's name cannot be resolved"
    assert said["closed proxy"] == "the proxy in HTTPS_PROXY cannot be reached"
    assert "redirects are not followed" in (said["redirect"] or "")
    assert all(line and "canary" not in line and str(closed) not in line for line in said.values()), said


@dataclass
class TinyProxy:
    """A proxy that notes what it is asked for, and answers as a receiver would."""

    heads: list[bytes] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 204 No Content\r\n\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.answer)
        await writer.drain()
        writer.close()


async def test_the_proxy_is_used_with_its_login_but_for_loopback_and_no_proxy(tmp_path: Path) -> None:
    proxy = TinyProxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        url = f"http://user:pass@127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        assert await problem(tmp_path, "http://hooks.example/in?token=x", url) is None
        (head,) = proxy.heads
        assert head.startswith(b"POST http://hooks.example/in?token=x HTTP/1.1\r\n")
        assert b"proxy-authorization: basic dxnlcjpwyxnz\r\n" in head.lower()
        proxy.answer = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
        refused = await problem(tmp_path, "https://hooks.example/", url)
        assert refused == "the proxy in HTTPS_PROXY refused (HTTP 407)"
        assert proxy.heads[-1].startswith(b"CONNECT hooks.example:443 ")
        with webhook_server() as server:
            assert await problem(tmp_path, server.url, url) is None
        assert await problem(tmp_path, "http://hooks.invalid/", url, no_proxy="invalid") is not None
    assert len(proxy.heads) == 2


def test_a_file_without_authorities_is_an_error_of_that_setting(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(SettingsError, match=r"^EXTRA_CA_FILE: ") as caught:
        Receiver("https://hooks.example/", (bytes(32),), extra_ca_file=file)
    assert str(tmp_path) not in str(caught.value)
