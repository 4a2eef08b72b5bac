"""What the coordinator and its child both read of a request means the same to both."""

from __future__ import annotations

import re
from typing import Final

import pytest

from contract.api_error import ApiError
from contract.chat_body import BodyHead, read_head
from contract.dialects import DIALECTS
from contract.dialects.dialect import Dialect
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage

MESSAGES = '[{"role":"user","content":"hi"}]'

ODD: Final = (
    *("null", "true", "false", "0", "1", "-0", "-1", "2", "1.0", "0.0", "1e0", "1E400", "9" * 5000, "NaN", "Infinity"),
    *('""', '" "', '"true"', '"false"', '"1"', '"yes"', '"on"', '"demo-small"', '"demo-small "', '"demo\\u002dsmall"'),
    *('"\\ud800"', '"\\u0000"', '"' + "x" * 100_000 + '"'),
    *("[]", "{}", "[[]]", "[{}]", "[null]", "[1]", '["hi"]', "[true]", '["demo-small"]', MESSAGES),
    *("[" * 150 + "]" * 150, "[" * 900 + "]" * 900, "[" * 5000 + "]" * 5000, "[" + "[]," * 200_000 + "[]]"),
    *(
        f'[{{"role":"user","content":{content}}}]'
        for content in ('""', "null", "1", "[]", "{}", "[1]", "[{}]", '["x"]')
    ),
    '[{"role":"user","content":[{"type":"text","text":"hi"}]}]',
    "[" + ",".join(['{"role":"user","content":"hi"}'] * 4097) + "]",
    *("", "tru", "True", "'x'", "1 2", "{"),
)
"""Values, and what is none."""


@pytest.mark.parametrize("name", ["model", "stream", "conversation"])
@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
async def test_a_parameter_that_both_read_means_the_same_to_both(serve: Serve, dialect: Dialect, name: str) -> None:
    name = dialect.conversation if name == "conversation" else name
    text = '"hi"' if dialect.may_be_text else MESSAGES
    answered = 0
    async with serve(ScriptedPage()) as client:
        for value in ODD:
            given = {
                "model": '"demo-small"',
                "stream": "false",
                "max_tokens": "9",
                dialect.conversation: text,
                name: value,
            }
            raw = ("{" + ",".join(f'"{key}":{json}' for key, json in given.items()) + "}").encode()
            try:
                head: BodyHead | ApiError = read_head(raw, dialect.conversation, may_be_text=dialect.may_be_text)
            except ApiError as error:
                head = error
            response = await client.post(dialect.path, data=raw, headers={"content-type": "application/json"})
            shown = value[:60]
            if isinstance(head, ApiError):
                param = (await response.json())["error"]["param"]
                assert response.status == 400, shown
                # A number too large and lists too deep are no JSON to the child; nor is a part of a message so exact.
                assert first_name(param) in (None, first_name(head.param)), (shown, head.param, param)
            elif response.status == 200:
                answered += 1
                is_stream = response.content_type == "text/event-stream"
                assert (head.model, head.stream) == ("demo-small", is_stream), shown
            else:
                assert response.status in (400, 404), shown  # the child looks closer, and is no server error
    assert answered


def first_name(param: str | None) -> str | None:
    return param and re.split(r"[.\[]", param)[0]
