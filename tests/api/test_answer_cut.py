"""Where an answer is cut: at the same place however its text comes in pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api_utils.answer_cut import AnswerCut, AnswerLimits
from api_utils.usage import BYTES_A_TOKEN, Usage

FEW = "abA€"  # few characters, so that sequences are found often, and begun more often still


def passed(pieces: list[str], limits: AnswerLimits) -> tuple[str, AnswerCut]:
    cut, text = AnswerCut(limits), ""
    for piece in pieces:
        text += cut.feed(piece)
        if cut.reached:
            return text, cut
    return text + cut.end(), cut


@given(
    pieces=st.lists(st.text(FEW, max_size=4), max_size=12),
    stop=st.lists(st.text(FEW, min_size=1, max_size=4), max_size=3),
    max_tokens=st.none() | st.integers(1, 5),
)
def test_the_cut_is_where_it_is_in_the_whole_text(pieces: list[str], stop: list[str], max_tokens: int | None) -> None:
    text, cut = passed(pieces, AnswerLimits(tuple(stop), max_tokens))
    whole = "".join(pieces)
    expected, reason, cut_at = whole, "stop", None
    end = next((end for end in range(len(whole)) if any(whole[: end + 1].endswith(one) for one in stop)), None)
    if end is not None:
        cut_at = max((one for one in stop if whole[: end + 1].endswith(one)), key=len)
        expected = whole[: end + 1 - len(cut_at)]
    if max_tokens is not None and len(expected.encode()) > max_tokens * BYTES_A_TOKEN:
        expected, reason = expected.encode()[: max_tokens * BYTES_A_TOKEN].decode(errors="ignore"), "length"
        cut_at = None
    assert (text, cut.finish_reason, cut.stop_sequence) == (expected, reason, cut_at)
    assert cut.passed_bytes == len(text.encode())


@given(pieces=st.lists(st.text(FEW, min_size=1, max_size=3), min_size=1, max_size=12), stop=st.text(FEW, min_size=1))
def test_no_more_is_held_back_than_could_begin_a_stop_sequence(pieces: list[str], stop: str) -> None:
    cut, passed_on, come = AnswerCut(AnswerLimits((stop,))), "", ""
    for piece in pieces:
        passed_on += cut.feed(piece)
        come += piece
        if cut.reached:
            return
        held = come.removeprefix(passed_on)
        assert stop.startswith(held)
        assert len(held) < len(stop)


def test_a_token_is_four_bytes_begun() -> None:
    assert Usage.of(0, 1) == Usage(0, 1)
    assert Usage.of(4, 5) == Usage(1, 2)
