"""Checks of ours beside schemathesis' own, which loads this module by `SCHEMATHESIS_HOOKS`."""

from __future__ import annotations

from typing import Any

import schemathesis

from contract.api_error import is_error_event
from contract.dialects.dialect import COMPLETE

PAGES_FAULT = ("bad_format", "bad_tool_call")
"""The scripted page does not write what a random schema or a required tool asks for, and the caller is told so."""


@schemathesis.check
def no_server_error(
    _: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Fail for a server error: children are ready, so that none is due."""
    if response.status_code < 500:
        return
    error: dict[str, Any] = response.json()["error"]
    assert response.status_code == 502, error
    assert error["code"] in PAGES_FAULT, error
    assert isinstance(case.body, dict)
    assert {"response_format", "tools", "text", "output_config"} & case.body.keys(), error


@schemathesis.check
def whole_events(_: schemathesis.CheckContext, response: schemathesis.Response, __: schemathesis.Case[Any]) -> None:
    """Fail for a stream that ends neither as an answer nor with an error."""
    is_stream = response.headers.get("content-type", [""])[0].startswith("text/event-stream")
    if not is_stream or response.stream_cut_short:  # schemathesis reads 20 events at most
        return
    last = response.content.rstrip().rpartition(b"\n")[2]
    assert response.content.endswith(b"\n\n")
    assert last in COMPLETE or is_error_event(last), last
