"""What the child refuses of a request's form, and at what price."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api_utils.dialects.chat import ChatRequest, parse_chat_request
from contract.api_error import ApiError


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([1] * 1000, "messages[0]"),
        ([{"role": "user", "content": [1] * 1000}], "messages[0].content[0]"),
    ],
)
def test_validation_stops_at_the_first_bad_item_of_a_list(messages: list[Any], param: str) -> None:
    body = {"model": "m", "messages": messages}
    with pytest.raises(ValidationError) as raised:
        ChatRequest.model_validate(body)
    # One for each member of the union that a message's content is, not one for each of a thousand items.
    assert raised.value.error_count() <= 2
    with pytest.raises(ApiError) as refused:
        parse_chat_request(body)
    assert refused.value.param is not None
    assert refused.value.param.startswith(param.removesuffix("[0]"))
