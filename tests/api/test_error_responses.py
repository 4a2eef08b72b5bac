"""Which of the page's errors an answer can end with, and the code that its caller then gets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api_utils.error_responses import from_browser, from_reason
from browser import errors
from contract.api_error import NOTHING_SUBMITTED, ErrorCode
from contract.child_api import UnreadyReason

END_THE_START = {
    errors.SiteError,
    errors.ProfileError,
    errors.ProfileLocked,
    errors.EngineMissing,
    errors.TrustError,
    errors.StreamPortTaken,
    errors.LoginNotSaved,
    errors.SavePlaceError,
}
"""Errors of a start or a command: no page is there to be asked."""


def below(kind: type[errors.BrowserError]) -> Iterator[type[errors.BrowserError]]:
    for child in kind.__subclasses__():
        yield child
        yield from below(child)


END_AN_ANSWER = sorted(set(below(errors.BrowserError)) - END_THE_START, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", END_AN_ANSWER)
@pytest.mark.parametrize("submitted", [True, False])
def test_every_error_that_an_answer_can_end_with_has_a_code(kind: type[errors.BrowserError], submitted: bool) -> None:
    error = from_browser(kind("said", submitted=submitted), submitted=False)
    assert (error.code, error.message) == (kind.reason, "said")
    assert ("x-should-retry" in error.headers, "retry-after" in error.headers) == (submitted, not submitted)


def test_the_errors_of_a_start_are_all_of_those_that_have_no_code() -> None:
    codes = {code.value for code in ErrorCode}
    assert {kind for kind in below(errors.BrowserError) if kind.reason not in codes} == END_THE_START


def test_a_reason_without_a_code_is_an_error_of_ours() -> None:
    assert from_reason("site_file", "said", submitted=True).code is ErrorCode.INTERNAL_ERROR


@pytest.mark.parametrize("reason", UnreadyReason)
def test_a_page_that_is_not_ready_is_refused_with_its_reason(reason: UnreadyReason) -> None:
    assert from_reason(reason, "said", submitted=False).code.value == reason.value


@pytest.mark.parametrize("kind", END_AN_ANSWER)
def test_no_error_after_a_submission_has_a_status_that_is_sent_again(kind: type[errors.BrowserError]) -> None:
    """Whether the error itself says so, or the mark of the submission."""
    for error in (from_browser(kind("m", submitted=True), submitted=False), from_browser(kind("m"), submitted=True)):
        assert error.status not in NOTHING_SUBMITTED
        assert error.headers == {"x-should-retry": "false"}
