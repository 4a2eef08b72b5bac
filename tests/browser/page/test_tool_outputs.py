"""Many outputs of a real page for the reader of tool calls: as models write them, and as they get them wrong.

All come from the demo site's page, many in one answer, with the boundaries of its events. Each is read whole, and cut
at every one of these boundaries. Other pieces and cuts are properties of the reader: tests/api/test_tools.py.
"""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import jsonschema
import pytest

from api_utils.bad_answer import BadAnswer
from api_utils.tools import Tool, ToolCall, ToolCallReader, ToolUse
from browser.page.chat_page import ChatPage
from demo.site import DemoSite
from tests.browser.capture.test_ways import NO_NETWORK
from tests.browser.conftest import Pages, demo_file
from tests.browser.profiles import cookie_state
from tests.support.size import size

OUTPUTS: Final = size(200, 1000)
IN_AN_ANSWER: Final = 50
TOKEN_CHARS: Final = 4  # the demo site's
SCHEMAS: dict[str, dict[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "run": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    "now": {},
}
VALIDATORS = {name: jsonschema.Draft202012Validator(schema) for name, schema in SCHEMAS.items()}
USE = ToolUse({name: Tool(name, "", schema) for name, schema in SCHEMAS.items()})
GOOD: list[dict[str, Any]] = [
    {"name": "weather", "arguments": {"city": "Oslo"}},
    {"name": "weather", "arguments": {"city": "Østre Gausdal 🌧", "days": 3}},
    {"name": "run", "arguments": {"code": "print('''\n```tool_call\n{}\n```\n''')"}},
    {"name": "now", "arguments": {}},
]
PROSE = ["", "I look it up.", "First:\n\n- one\n- `two`", "```python\nprint(1)\n```", "It's \"so\", {isn't} it?"]

Damage = Callable[[random.Random, dict[str, Any]], str]


def changed(key: str, value: Any) -> Damage:
    return lambda _, call: json.dumps({**call, key: value})


HARMLESS: dict[str, Damage] = {
    "none": lambda _, call: json.dumps(call, ensure_ascii=False),
    "indented": lambda _, call: json.dumps(call, indent=2),
    "arguments as text": lambda _, call: json.dumps({**call, "arguments": json.dumps(call["arguments"])}),
    "a key more": changed("id", 7),
    "in a list": lambda _, call: json.dumps([call]),
}
DAMAGES: dict[str, Damage] = {
    "wrong quotes": lambda _, call: str(call),
    "typographic quotes": lambda _, call: json.dumps(call).replace('"', "”"),
    "no quotes": lambda _, call: json.dumps(call).replace('"', ""),
    "trailing comma": lambda _, call: json.dumps(call)[:-1] + ",}",
    "a brace less": lambda _, call: json.dumps(call)[:-1],
    "a brace more": lambda _, call: json.dumps(call) + "}",
    "a comment": lambda _, call: "// the call\n" + json.dumps(call),
    "words within": lambda _, call: "Here you are: " + json.dumps(call),
    "two in one block": lambda _, call: f"{json.dumps(call)}\n{json.dumps(call)}",
    "a list with one that is bad": lambda _, call: json.dumps([call, {"name": "none"}]),
    "as a function": lambda _, call: f"{call['name']}(city='Oslo')",
    "as XML": lambda _, call: f"<invoke name='{call['name']}'></invoke>",
    "unknown tool": changed("name", "delete_all"),
    "another case": lambda _, call: json.dumps({**call, "name": call["name"].upper()}),
    "no name": lambda _, call: json.dumps({"arguments": call["arguments"]}),
    "name no text": changed("name", {"weather": 1}),
    "missing argument": lambda _, __: json.dumps({"name": "weather", "arguments": {"days": 1}}),
    "no arguments": lambda _, __: json.dumps({"name": "run"}),
    "argument of another type": lambda _, __: json.dumps({"name": "weather", "arguments": {"city": ["Oslo"]}}),
    "argument out of range": lambda _, __: json.dumps({"name": "weather", "arguments": {"city": "Oslo", "days": 0}}),
    "argument too many": lambda _, __: json.dumps({"name": "weather", "arguments": {"city": "Oslo", "unit": "C"}}),
    "arguments a list": changed("arguments", ["Oslo"]),
    "arguments null": changed("arguments", None),
    "arguments no JSON": changed("arguments", "{city: Oslo}"),
    "no number": lambda _, __: '{"name": "now", "arguments": {"at": NaN}}',
    "endless number": lambda _, __: '{"name": "now", "arguments": {"at": -1e999}}',
    "deep": lambda rng, __: '{"name": "now", "arguments": ' + "[" * rng.randrange(900, 1100),
    "characters lost": lambda rng, call: "".join(c for c in json.dumps(call) if rng.random() > 0.1),
    "nothing": lambda _, __: "",
}


def outputs() -> Iterator[tuple[str, str, list[dict[str, Any]] | None]]:
    """Yield the name of what was done to an output, its text, and its calls if none of them was damaged."""
    rng = random.Random(12)
    every = [*HARMLESS.items(), *DAMAGES.items()]
    for number in range(OUTPUTS):
        name, damage = every[number % len(every)]
        calls = rng.choices(GOOD, k=rng.choice((1, 1, 2, 3)))
        blocks = [json.dumps(call, ensure_ascii=False) for call in calls]
        hit = rng.randrange(len(blocks))
        blocks[hit] = damage(rng, calls[hit])
        fenced = [f"```tool_call\n{block}\n```" for block in blocks]
        text = "\n".join(filter(None, [rng.choice(PROSE), rng.choice(("\n", "\n\n")).join(fenced), rng.choice(PROSE)]))
        yield name, text, calls if name in HARMLESS else None


def check(calls: Sequence[ToolCall]) -> None:
    """Hold calls against what was declared, with nothing of the product's own."""
    for call in calls:
        assert call.name in SCHEMAS
        arguments = json.loads(call.arguments, parse_constant=pytest.fail)
        VALIDATORS[call.name].validate(arguments)
        assert isinstance(arguments, dict)


def read_cut_everywhere(pieces: Sequence[str]) -> list[ToolCall] | None:
    """Read pieces, and at each boundary what there would be if the answer ended there; None for a bad answer."""
    reader, calls, is_bad = ToolCallReader(USE), list[ToolCall](), False
    for piece in pieces:
        try:
            calls += [item for item in reader.feed(piece) if isinstance(item, ToolCall)]
        except BadAnswer:
            is_bad = True
            break
        ended = copy.copy(reader)
        try:
            check([item for item in ended.end() if isinstance(item, ToolCall)])
        except BadAnswer:
            continue
    check(calls)
    if is_bad:
        return None
    try:
        calls += [item for item in reader.end() if isinstance(item, ToolCall)]
    except BadAnswer:
        return None
    return calls


@pytest.mark.parametrize(
    ("change", "answers"), [({}, OUTPUTS // IN_AN_ANSWER), (NO_NETWORK, 2)], ids=["traffic", "page"]
)
async def test_no_output_becomes_a_call_that_may_not_be_made(
    shared_pages: Pages, demo: DemoSite, change: dict[str, str], answers: int
) -> None:
    page = await shared_pages.open(demo_file(demo, **change), cookie_state(demo))
    every, results = list(outputs()), Counter[str]()
    for answer in range(answers):
        batch = every[answer * IN_AN_ANSWER : (answer + 1) * IN_AN_ANSWER]
        for (name, text, wanted), pieces in zip(batch, await shown(page, [text for _, text, _ in batch]), strict=True):
            assert "".join(pieces).rstrip(" ") == text
            calls = read_cut_everywhere(pieces)
            results["none" if calls is None else "calls"] += 1
            if wanted is not None:
                assert calls is not None, text
                assert [(call.name, json.loads(call.arguments)) for call in calls] == [
                    (call["name"], call["arguments"]) for call in wanted
                ]
            elif name != "characters lost":  # what is lost may be a space
                assert calls is None, text
    assert results.total() == answers * IN_AN_ANSWER
    assert min(results.values()) > results.total() // 10


async def shown(page: ChatPage, texts: Sequence[str]) -> list[list[str]]:
    """Return each text in the pieces in which it came from the page, which shows all of them as one answer."""
    padded = [text + " " * (-len(text) % TOKEN_CHARS) for text in texts]
    script = "".join(padded).encode().hex()
    ends = [sum(map(len, padded[: number + 1])) for number in range(len(padded))]
    found: list[list[str]] = [[] for _ in padded]
    at = number = 0
    async for piece in page.ask("a", f"[[delay_ms=0 say={script}]]", "demo-small"):
        rest = piece
        while rest:
            part, rest = rest[: ends[number] - at], rest[ends[number] - at :]
            found[number].append(part)
            at += len(part)
            number += at == ends[number]
    assert number == len(padded)
    return found
