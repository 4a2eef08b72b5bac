"""A short run of `python -m tests.api_fuzz`, and that it notices what it is there for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.api_fuzz.run import Plan, fleet, fuzz, served_document
from tests.coordinator.program import Running

pytestmark = pytest.mark.slow

SHORT = Plan(examples=15, seed=20261129, phases="examples,fuzzing")


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with fleet(tmp_path_factory.mktemp("api-fuzz")) as started:
        yield started


async def test_random_requests_get_documented_answers(running: Running) -> None:
    outcome = await fuzz(running, await served_document(running), SHORT)
    assert not outcome.problems, outcome.report
    assert outcome.cases > 150
    # Not refused at the edge alone: they reach the page, and what the child refuses.
    assert outcome.answered > 10
    assert {"invalid_request", "unsupported_parameter"} <= outcome.refused


@pytest.mark.long  # a test of the checks, as the next
async def test_an_answer_that_is_not_as_documented_is_noticed(running: Running) -> None:
    document = await served_document(running)
    del document["components"]["schemas"]["Model"]["properties"]["owned_by"]
    document["components"]["schemas"]["Model"]["required"].remove("owned_by")
    outcome = await fuzz(running, document, replace(SHORT, only="getModel"))
    assert outcome.problems == ["schemathesis: exit code 1"]
    assert "owned_by" in outcome.report


@pytest.mark.long
async def test_an_error_that_is_not_documented_is_noticed(running: Running) -> None:
    document = await served_document(running)
    del document["paths"]["/v1/models/{id}"]["get"]["responses"]["404"]
    outcome = await fuzz(running, document, replace(SHORT, only="getModel"))
    assert outcome.problems == ["schemathesis: exit code 1"]
    assert "Undocumented status code" in outcome.report
