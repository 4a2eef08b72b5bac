"""A short run of `python -m tests.api_fuzz`, and that it notices what it is there for."""

from __future__ import annotations

from pathlib import Path

from tests.api_fuzz.run import Plan, run


async def test_random_requests_get_documented_answers(tmp_path: Path) -> None:
    outcome = await run(tmp_path, Plan(examples=8, seed=20261129))
    assert not outcome.problems, outcome.report
    assert outcome.cases > 500
    # Not refused at the edge alone: they reach the page, and what the child refuses.
    assert outcome.answered > 50
    assert {"invalid_request", "unsupported_parameter", "model_not_found"} <= outcome.refused
