"""What is read of a request's body without building it, and that it is no laxer than a parser that builds it."""

from __future__ import annotations

import json

import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api_error import ApiError
from contract.chat_body import MOST_MESSAGES, MOST_PARTS, BodyHead, check_amount, read_head

CHAT = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"x":%s}'


def refusal(raw: bytes, field: str = "messages", *, may_be_text: bool = False) -> ApiError:
    with pytest.raises(ApiError) as raised:
        read_head(raw, field, may_be_text=may_be_text)
    assert raised.value.status == 400
    return raised.value


@pytest.mark.parametrize(
    ("raw", "head"),
    [
        (b'{"model":"m","messages":[{}]}', BodyHead("m", stream=False)),
        (
            b' {"stream" : true , "messages" : [ {"content":null} ] , "model" : "\\u00e9\\ud83d\\ude00" }\n',
            BodyHead("\xe9\U0001f600", stream=True),
        ),
        (b'{"model":"m","messages":[{}],"stream":null}', BodyHead("m", stream=False)),
        (b'{"mod\\u0065l":"m","messages":[{"content":[{"type":"text"}]}]}', BodyHead("m", stream=False)),
    ],
)
def test_the_head_is_read_whatever_else_there_is(raw: bytes, head: BodyHead) -> None:
    assert read_head(raw) == head


def test_of_a_name_that_comes_twice_the_last_counts_as_in_every_other_parser() -> None:
    raw = b'{"model":"a","messages":[],"stream":false,"model":"b","messages":[{}],"stream":true}'
    assert read_head(raw) == BodyHead("b", stream=True)
    assert refusal(b'{"model":"a","messages":[{}],"messages":[]}').param == "messages"


@pytest.mark.parametrize(
    "value",
    [
        *(b"NaN", b"Infinity", b"-Infinity", b"01", b"1.", b"tru", b"'a'", b"[1,]", b"{1:2}", b"1 2", b"1}{", b""),
        *(b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'{"\xff":1}', b'"\x01"', b'"\\x"'),
        *(b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\u0041"', b'{"\\ud800":1}'),
        *(b"[" * 50_000, b"[" * 50_000 + b"]" * 50_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    ],
)
def test_what_is_not_read_must_be_json_all_the_same(value: bytes) -> None:
    assert refusal(CHAT % value).param is None
    assert refusal(b'{"model":"m","messages":[{"content":[{"x":%s}]}]}' % value).status == 400


@given(st.binary(max_size=12) | st.text(alphabet='[]{}",:0123456789.eE-+tfn\\u \n', max_size=12).map(str.encode))
def test_no_value_is_taken_that_a_strict_parser_refuses(value: bytes) -> None:
    raw = CHAT % value
    try:
        read_head(raw)
    except ApiError:
        return
    pydantic_core.from_json(raw, allow_inf_nan=False)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b'{"messages":[{}]}', "model"),
        (b'{"model":"","messages":[{}]}', "model"),
        (b'{"model":7,"messages":[{}]}', "model"),
        (b'{"model":["m"],"messages":[{}]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"m","messages":null}', "messages"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":"hi"}', "messages"),
        (b'{"model":"m","messages":{"0":{}}}', "messages"),
        (b'{"model":"m","messages":[{},1]}', "messages[1]"),
        (b'{"model":"m","messages":[{},"hi"]}', "messages[1]"),
        (b'{"model":"m","messages":[{},{"content":[{},"hi"]}]}', "messages[1].content[1]"),
        (b'{"model":"m","messages":[{},{"tool_calls":[7]}]}', "messages[1].tool_calls[0]"),
        (b"[]", None),
        (b"null", None),
        (b"", None),
    ],
)
def test_a_refusal_names_the_parameter(raw: bytes, param: str | None) -> None:
    error = refusal(raw)
    assert error.param == param
    assert param is None or error.message.startswith(param)


def test_messages_and_parts_are_counted_alike_in_bytes_and_in_values() -> None:
    def is_refused(messages: list[object]) -> bool:
        told: list[str | None] = []
        for read in (lambda: read_head(json.dumps({"model": "m", "messages": messages}).encode()),
                     lambda: check_amount(messages)):  # fmt: skip
            try:
                read()
                told.append(None)
            except ApiError as error:
                told.append(error.message)
        assert told[0] == told[1]
        return told[0] is not None

    parts = [{"type": "text", "text": "x"}] * (MOST_PARTS // 2)
    assert not is_refused([{}] * MOST_MESSAGES)
    assert is_refused([{}] * (MOST_MESSAGES + 1))
    assert not is_refused([{"content": parts}, {"content": "x"}, {"content": parts}])
    assert is_refused([{"content": parts}, {"content": parts}, {"content": parts[:1]}])
    assert not is_refused([{"content": parts, "tool_calls": parts}])
    assert is_refused([{"content": parts, "tool_calls": [*parts, {}]}])
    assert is_refused([{"tool_calls": [{}] * (MOST_PARTS + 1)}])
    assert not is_refused([{}])  # what was counted of one body is forgotten for the next


def test_each_dialect_names_its_list() -> None:
    assert read_head(b'{"model":"m","input":[{"content":[{}]}],"messages":7}', "input", may_be_text=True).model == "m"
    assert read_head(b'{"model":"m","prompt":"hi"}', "prompt", may_be_text=True).model == "m"
    assert read_head(b'{"model":"m","prompt":["hi","you"]}', "prompt", may_be_text=True).model == "m"
    assert refusal(b'{"model":"m","prompt":""}', "prompt", may_be_text=True).param == "prompt"
    assert refusal(b'{"model":"m","prompt":[1]}', "prompt", may_be_text=True).param == "prompt[0]"
    assert refusal(b'{"model":"m","input":"hi"}', "input").param == "input"
    for item in ('"x"', "{}"):
        many = b'{"model":"m","input":[%s]}' % ",".join([item] * (MOST_MESSAGES + 1)).encode()
        assert "more than" in refusal(many, "input", may_be_text=True).message
