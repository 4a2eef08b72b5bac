"""The memory of failures and of answers in any order of events: bounded, and right as long as it remembers."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contract.api_error import ApiError, ErrorCode
from coordinator.proxy.exchange import RequestStats
from coordinator.proxy.headers import HeaderMap
from coordinator.proxy.idempotency import Reader, Record, RecordLimits, Records
from coordinator.proxy.repeats import Failures
from tests.support.manual_loop import ManualLoop
from tests.support.size import size


def error_of(action: Callable[..., object], *args: object) -> ApiError | None:
    """Return the error that the action raises, None if it raises none."""
    try:
        action(*args)
    except ApiError as error:
        return error
    return None


class FailureMachine(RuleBasedStateMachine):
    """Failures, held against a plain list of those that are remembered."""

    MOST = 5
    bodies = st.binary(max_size=2)

    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.failures = self.loop.call(Failures, window_s=60.0, most=self.MOST)
        self.model: dict[bytes, tuple[float, str | None]] = {}

    def teardown(self) -> None:
        self.loop.close()

    def now_known(self) -> dict[bytes, tuple[float, str | None]]:
        self.model = {body: one for body, one in self.model.items() if one[0] > self.loop.now}
        return self.model

    @rule(body=bodies, code=st.sampled_from(["child_lost", None]))
    def fails(self, body: bytes, code: str | None) -> None:
        self.loop.call(self.failures.add, HeaderMap([]), "/", body, code)
        _, before = self.now_known().pop(body, (0.0, None))
        self.model[body] = (self.loop.now + 60, code or before)
        if len(self.model) > self.MOST:
            del self.model[next(iter(self.model))]

    @rule(body=bodies)
    def was_not_submitted(self, body: bytes) -> None:
        self.loop.call(self.failures.discard_left, HeaderMap([]), "/", body)
        if self.model.get(body, (0.0, "not there"))[1] is None:
            del self.model[body]

    @rule(seconds=st.sampled_from([1, 30, 59, 60]))
    def time_passes(self, seconds: float) -> None:
        self.loop.advance(seconds)

    @rule(body=bodies, is_retry=st.booleans())
    def comes(self, body: bytes, *, is_retry: bool) -> None:
        headers = HeaderMap([(b"x-stainless-retry-count", b"2" if is_retry else b"0")])
        error = self.loop.call(error_of, self.failures.check, headers, "/", body)
        known = self.now_known().get(body)
        assert (error is not None) == (known is not None and (known[1] is not None or is_retry))
        if error is not None and known is not None:
            assert error.code == ErrorCode.REPEATED_AFTER_SUBMISSION
            del self.model[body]
            self.model[body] = (self.loop.now + 60, known[1])

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.failures) <= self.MOST


class RecordMachine(RuleBasedStateMachine):
    """Records in any order of beginnings, bytes, ends, readers and time: bounded, and never a key forgotten early."""

    LIMITS = RecordLimits(ttl_s=100.0, one_bytes=5_000, all_bytes=12_000, most=8)
    names = st.sampled_from([bytes([number]) for number in range(12)])

    def __init__(self) -> None:
        super().__init__()
        self.loop = ManualLoop()
        self.records = self.loop.call(Records, self.LIMITS)
        self.writing: dict[bytes, Record] = {}
        self.ended: dict[bytes, tuple[float, bytes]] = {}
        self.written: dict[bytes, bytes] = {}
        self.bodies: dict[bytes, bytes] = {}
        self.readers: list[Reader] = []

    def teardown(self) -> None:
        self.loop.close()

    @rule(name=names, other=st.booleans(), stays=st.booleans())
    def comes(self, name: bytes, *, other: bool, stays: bool) -> None:
        known = name in self.writing or (name in self.ended and self.ended[name][0] > self.loop.now)
        body, opened = b"another" if other else b"body", list[tuple[Record, bool]]()

        def open_it() -> None:
            opened.append(self.records.open(name, body, "id", RequestStats()))

        error = self.loop.call(error_of, open_it)
        if error is not None:
            assert known
            assert (error.code == ErrorCode.IDEMPOTENCY_KEY_REUSED) == (self.bodies[name] != body)
            return
        ((record, is_first),) = opened
        assert known or is_first, "an answer that is over its time was given"
        if is_first:
            self.bodies[name] = body
            # Only by their number, those that ended first.
            assert not known or len([until for until, _ in self.ended.values() if until > self.loop.now]) > 8
            self.writing[name], self.written[name] = record, b""
            self.ended.pop(name, None)
        if stays:
            self.readers.append(Reader(record))
        if not is_first:
            assert self.loop.call(record.piece, 0)[0] == self.written[name][: 1 << 18]

    @rule(name=names, size=st.integers(0, 3_000))
    def goes_on(self, name: bytes, size: int) -> None:
        record = self.writing.get(name)
        if record is not None and not record.readers:
            message = {"type": "http.response.body", "body": b"x" * size, "more_body": True}
            self.loop.run_until_complete(record.send(message))
            self.written[name] += b"x" * size

    @rule(name=names, keep=st.booleans(), is_whole=st.booleans())
    def ends(self, name: bytes, *, keep: bool, is_whole: bool) -> None:
        record = self.writing.pop(name, None)
        if record is None:
            return
        if is_whole:
            self.loop.run_until_complete(record.send({"type": "http.response.body", "body": b""}))
        self.loop.call(self.records.end, record, keep=keep)
        if keep:
            self.ended[name] = (self.loop.now + 100, self.written[name])

    @rule()
    def a_reader_leaves(self) -> None:
        if self.readers:
            reader = self.readers.pop(0)
            self.loop.call(reader.record.leave, reader)
            self.loop.call(self.records.tidy)

    @rule(seconds=st.sampled_from([1, 50, 100]))
    def time_passes(self, seconds: float) -> None:
        self.loop.advance(seconds)

    @invariant()
    def is_bounded(self) -> None:
        being_read = sum({id(one): one.held_bytes for one in (reader.record for reader in self.readers)}.values())
        assert 0 <= self.records.held_bytes <= self.LIMITS.all_bytes + being_read
        assert len(self.records) <= self.LIMITS.most + len(self.writing)
        for record in self.writing.values():
            assert record.readers or record.held_bytes <= self.LIMITS.one_bytes + 1024
        if not any(until > self.loop.now for until, _ in self.ended.values()):
            assert self.records.held_bytes == 0


TestFailures = FailureMachine.TestCase
TestRecords = RecordMachine.TestCase
TestFailures.settings = TestRecords.settings = settings(
    max_examples=size(30, 60), stateful_step_count=40, deadline=None
)
