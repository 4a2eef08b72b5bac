"""A coordinator for schemathesis, a run of it, and what is looked at after it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api_fuzz.target import MOVED, READY, target
from tests.coordinator.program import KEY, ROOT, Running, coordinator, write_profile
from tests.support import DIES_WITH_PARENT
from tests.support.waiting import HANG_LIMIT_S

# Not positive_data_acceptance and negative_data_rejection: a schema cannot say all that a page needs, and a wrong type
# that harms nothing is taken.
CHECKS = (
    *("status_code_conformance", "content_type_conformance", "response_headers_conformance"),
    *("response_schema_conformance", "unsupported_method", "allow_header_conformance", "ignored_auth"),
    *("no_server_error", "whole_events"),
)

FAULT = re.compile(r"Traceback|unexpected_error|proxy_failed")
"""In the log, where the children's lines are too: what nobody foresaw."""


@dataclass(frozen=True)
class Plan:
    """How many random requests each operation gets at most, beside those made of the document; from which seed.

    `only` names one operation by its id. `phases` are schemathesis': coverage, which tries each keyword of each schema,
    takes most of the time.
    """

    examples: int
    seed: int
    only: str | None = None
    phases: str = "examples,coverage,fuzzing"


@dataclass(frozen=True)
class Outcome:
    """What schemathesis wrote, how many requests it sent, and what was wrong.

    `answered` chat requests reached the page; `refused` are the codes that others got.
    """

    report: str
    cases: int
    answered: int
    refused: set[str]
    problems: list[str]


@contextlib.asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Running]:
    """Run a coordinator in this empty folder until the context ends, with all children READY."""
    for name in (READY, MOVED):
        write_profile(folder / "active", name)
    program = "tests.api_fuzz.run_with_scripted_pages"
    async with coordinator(folder, program=program, LOG_FORMAT="json") as running:
        await running.until_ready(READY, MOVED)
        yield running


async def served_document(running: Running) -> dict[str, Any]:
    """Return the target that the coordinator itself describes."""

    async def get(path: str) -> dict[str, Any]:
        body: dict[str, Any] = (await running.http.get(path, headers=KEY)).json()
        return body

    models = [model["id"] for model in (await get("/v1/models"))["data"]]
    responses = []
    for _ in range(2):
        asked = {"model": models[0], "input": "hello"}
        responses.append((await running.http.post("/v1/responses", headers=KEY, json=asked)).json()["id"])
    return target(await get("/openapi.json"), models=models, responses=responses)


async def fuzz(running: Running, document: dict[str, Any], plan: Plan) -> Outcome:
    """Send the requests that are made of the document, and hold the answers against it."""
    folder = running.log.parent
    (folder / "target.json").write_text(json.dumps(document))
    code, report = await _schemathesis(folder, plan, running)
    problems = [] if code == 0 else [f"schemathesis: exit code {code}"]
    problems += [] if (await running.ready())[0] == 200 else ["/ready is not 200 afterwards"]
    problems += [f"log: {line}" for line in running.log.read_text().splitlines() if FAULT.search(line)]
    requests = [
        (dict(labels), int(value))
        for (name, labels), value in (await running.metrics()).values.items()
        if name == "tabfleet_requests_total"
    ]
    refused = {labels["code"] for labels, _ in requests} - {""}
    problems += ["metrics: an error whose code was not understood"] if "other" in refused else []
    return Outcome(
        report,
        cases=json.loads((folder / "cases.json").read_text())["test_cases"]["generated"],
        answered=sum(count for labels, count in requests if labels["outcome"] == "answered"),
        refused=refused,
        problems=problems,
    )


async def _schemathesis(folder: Path, plan: Plan, running: Running) -> tuple[int, str]:
    # By one worker: two threads that parse at once make Python 3.11's `ast` raise SystemError.
    process = await asyncio.create_subprocess_exec(
        *DIES_WITH_PARENT,
        *(str(Path(sys.executable).with_name("st")), "--no-color", "run", str(folder / "target.json")),
        *("--url", str(running.http.base_url), "--header", f"Authorization:{KEY['authorization']}"),
        *("--checks", ",".join(CHECKS), "--max-examples", str(plan.examples), "--seed", str(plan.seed)),
        *("--phases", plan.phases, "--request-timeout", str(HANG_LIMIT_S)),
        *("--continue-on-failure", "--warnings", "off", "--generation-database", "none", "--output-truncate", "false"),
        *("--report", "json", "--report-json-path", str(folder / "cases.json")),
        *("--suppress-health-check", "all", *(("--include-operation-id", plan.only) if plan.only else ())),
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.api_fuzz.checks"},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()
