"""The words of a site file in the place of the usual ones: in the prompt, in its history, and where calls are read."""

from __future__ import annotations

import json
from typing import Any

from api_utils.dialects.chat import parse_chat_request
from api_utils.json_answer import JsonFormat
from api_utils.prompt import text_of
from api_utils.prompt_form import DEFAULT_FORM, PromptForm
from api_utils.tools import Tool, ToolCall, ToolCallReader, ToolUse
from browser.site.schema import PromptTexts
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage
from tests.api.test_tools import OSLO, TOOLS, USE

TEXTS = PromptTexts(
    call_begin="<tool_call>",
    call_end="</tool_call>",
    tools="You have: {tools}\nCall so: {call}",
    json_object="Only JSON!",
    json_schema="Only this: {schema}",
    repair_call="Wrong: {problem}. Again: {call}",
    repair_json="Wrong: {problem}. {format}",
)
FORM = PromptForm.of(TEXTS)
TAGGED = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


class WordyPage(ScriptedPage):
    @property
    def prompt_texts(self) -> PromptTexts:
        return TEXTS


def test_what_the_page_is_told_by_default() -> None:
    listed = '{"name": "weather", "description": "It rains.", "parameters": {}}'
    use = ToolUse({"weather": Tool("weather", "It rains.", {})})
    assert use.instructions() == (
        "You can call the tools listed below. To call one, write a block of exactly this form:\n\n"
        '```tool_call\n{"name": "NAME", "arguments": {}}\n```\n\n'
        "`arguments` is a JSON object that fits the tool's JSON Schema in `parameters`.\n"
        "Do not write anything after a call: its result comes with the next message.\n"
        "Write one block for each call.\nIf you need no tool, answer as usual.\n\n" + listed
    )
    only = ToolUse(use.tools, required=True, only="weather", parallel=False).instructions()
    assert "Make at most one call.\nYou must call the tool weather now.\n\n" in only
    assert "You must call a tool now." in ToolUse(use.tools, required=True).instructions()


def test_what_is_filled_in_is_not_filled_in_again() -> None:
    """A caller's description or schema may hold what looks like a placeholder."""
    schema = {"description": "{problem} {format}"}
    assert JsonFormat(schema).repair("it is {format}", FORM) == (
        'Wrong: it is {format}. Only this: {"description": "{problem} {format}"}'
    )
    assert JsonFormat().instructions(FORM) == "Only JSON!"


def test_earlier_calls_are_written_with_the_same_marks() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": [call]}]
    request = parse_chat_request({"model": "m", "messages": messages})
    assert text_of(request.messages, form=FORM).endswith(f"Assistant:\n{TAGGED}")
    assert text_of(request.messages, form=DEFAULT_FORM).endswith(f"Assistant:\n{OSLO}")


def test_calls_are_read_by_these_marks_wherever_the_pieces_end() -> None:
    text = f"So.\n{TAGGED}\n"
    for size in range(1, len(text)):
        reader = ToolCallReader(USE, FORM)
        items: list[Any] = [reader.feed(text[at : at + size]) for at in range(0, len(text), size)]
        found = [item for part in [*items, reader.end()] for item in part]
        assert "".join(item for item in found if isinstance(item, str)) == "So."
        assert [json.loads(item.arguments) for item in found if isinstance(item, ToolCall)] == [{"city": "Oslo"}]
    assert ToolCallReader(USE, FORM).feed(f"{OSLO}\n.") == [f"{OSLO}\n."], "the usual marks are text to such a page"


async def test_a_page_with_words_of_its_own(serve: Serve) -> None:
    page = WordyPage(pieces=("<tool_call>\n", "{}", "\n</tool_call>"), later=[(TAGGED,)])
    body = {"model": "demo-small", "messages": [{"role": "user", "content": "?"}], "tools": TOOLS}
    async with serve(page) as client:
        answer = await (await client.post("/v1/chat/completions", json=body)).json()
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "weather"
    first, second = (text for _, text, _ in page.prompts)
    assert first.startswith('Tools:\nYou have: {"name": "weather"')
    assert second == (
        'Wrong: it calls a tool that was not given. Again: <tool_call>\n{"name": "NAME", "arguments": {}}\n</tool_call>'
    )
