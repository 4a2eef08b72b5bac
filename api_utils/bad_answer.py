"""What is wrong with an answer that came whole, but not as the request asks."""

from __future__ import annotations

from contract.api_error import DO_NOT_RETRY, ApiError, ErrorCode


class BadAnswer(ApiError):
    """The page's answer cannot be passed on. `problem` is also for the page, which may be asked for another one."""

    def __init__(self, code: ErrorCode, problem: str) -> None:
        """`problem` goes on from "the answer", in words that hold none of the answer's."""
        super().__init__(code, f"the page's answer cannot be passed on: {problem}", headers=DO_NOT_RETRY)
        self.problem = problem
