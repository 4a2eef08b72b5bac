"""The file that says until when claims hold: what is written is read, and whatever cannot be read is over."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import claim_deadline
from contract.claim_deadline import NO_FENCE, ClaimDeadline, ClaimDeadlineFile, boottime

TIMES_S = st.floats(min_value=0, max_value=2**33, allow_nan=False)
"""Up to 272 years after boot."""
AT_MOST_S = 1e-6
"""As exact as a float of that size is."""


def test_the_clock_is_the_one_that_counts_suspension() -> None:
    before, now, after = time.clock_gettime(time.CLOCK_BOOTTIME), boottime(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= now <= after


def test_a_new_file_is_private_and_says_over(tmp_path: Path) -> None:
    path = tmp_path / "deadline"
    writer = ClaimDeadlineFile(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == bytes(8)
    assert ClaimDeadline(path).is_over
    writer.extend(boottime() + 60)
    assert 0 < ClaimDeadline(path).left_s() <= 60


def test_a_file_of_an_earlier_coordinator_is_taken_over_as_over(tmp_path: Path) -> None:
    path = tmp_path / "deadline"
    path.write_bytes(b"\xff" * 20)
    path.chmod(0o666)
    ClaimDeadlineFile(path)
    assert path.read_bytes() == bytes(8)
    assert path.stat().st_mode & 0o777 == 0o600


@given(deadlines=st.lists(TIMES_S | st.none(), min_size=1, max_size=8))
def test_a_deadline_is_read_as_it_was_written_and_only_put_off(deadlines: list[float | None]) -> None:
    """None is an end of the claim; after it any deadline is later."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim_deadline, "boottime", lambda: 0.0)
        path = Path(folder) / "deadline"
        writer = ClaimDeadlineFile(path)
        reader, expected = ClaimDeadline(path), 0.0
        for deadline in deadlines:
            if deadline is None:
                writer.end()
                expected = 0.0
            else:
                writer.extend(deadline)
                expected = max(expected, deadline)
            content = path.read_bytes()
            assert len(content) == 8
            assert abs(int.from_bytes(content, sys.byteorder) / 1e9 - expected) <= AT_MOST_S
            assert abs(reader.left_s() - expected) <= AT_MOST_S
            assert reader.is_over is (int.from_bytes(content, sys.byteorder) == 0)
        writer.close()
        assert reader.is_over


@given(now=TIMES_S, deadline=TIMES_S)
def test_what_is_left_is_the_time_until_the_deadline(now: float, deadline: float) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(claim_deadline, "boottime", lambda: now)
        path = Path(folder) / "deadline"
        ClaimDeadlineFile(path).extend(deadline)
        claim = ClaimDeadline(path)
        assert abs(claim.left_s() - (deadline - now)) <= AT_MOST_S
        if deadline <= now:
            assert claim.is_over


@pytest.mark.parametrize("deadline", [-1.0, math.nan, math.inf, 2.0**64])
def test_what_is_no_time_is_refused(tmp_path: Path, deadline: float) -> None:
    writer = ClaimDeadlineFile(tmp_path / "deadline")
    writer.extend(5)
    with pytest.raises(ValueError, match="is no time since boot"):
        writer.extend(deadline)
    assert int.from_bytes((tmp_path / "deadline").read_bytes(), sys.byteorder) == 5 * 10**9


def short(path: Path) -> None:
    path.write_bytes(b"\xff" * 7)


def missing(path: Path) -> None:
    assert not path.exists()


UNREADABLE: list[Callable[[Path], object]] = [missing, short, Path.touch, Path.mkdir, os.mkfifo]


@pytest.mark.parametrize("make", UNREADABLE)
def test_what_cannot_be_read_is_over(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "deadline")
    claim = ClaimDeadline(tmp_path / "deadline")
    assert claim.is_fenced
    assert claim.is_over


def test_a_file_that_is_cut_or_replaced_later_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "deadline"
    writer = ClaimDeadlineFile(path)
    writer.extend(boottime() + 60)
    claim = ClaimDeadline(path)
    (tmp_path / "other").write_bytes(b"\xff" * 8)
    (tmp_path / "other").replace(path)
    assert claim.left_s() <= 60
    writer.end()
    assert claim.is_over


def test_a_look_that_meets_half_a_number_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deadline"
    ClaimDeadlineFile(path).extend(boottime() + 60)
    claim, whole = ClaimDeadline(path), os.pread
    halves = iter([bytes(8)])
    monkeypatch.setattr(os, "pread", lambda *given: next(halves, None) or whole(*given))
    assert not claim.is_over


def test_without_a_file_there_is_no_fence() -> None:
    assert not NO_FENCE.is_fenced
    assert NO_FENCE.left_s() == math.inf
    assert not NO_FENCE.is_over


def test_the_end_is_told_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = ClaimDeadlineFile(tmp_path / "deadline")
    writer.extend(boottime() + 60)
    claim = ClaimDeadline(tmp_path / "deadline")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)  # as a file system that copies what is written in place may say
    with pytest.raises(OSError, match="No space"):
        writer.extend(boottime() + 120)
    assert not claim.is_over
    writer.end()
    assert claim.is_over
