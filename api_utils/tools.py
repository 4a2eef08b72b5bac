"""Tools on a page that has none: declared in the prompt, and their calls read out of the answer's text.

The prompt begins with a section `Tools:` that lists the tools and asks for each call as a fenced block::

    ```tool_call
    {"name": "get_weather", "arguments": {"city": "Oslo"}}
    ```

A fence survives both the page's traffic and its rendering. A conversation's earlier calls are written out the same way.
The words and the block's first and last line are those of a `PromptForm`.

Declarations: https://platform.openai.com/docs/api-reference/chat/create (tools, tool_choice, parallel_tool_calls)
Schemas: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from api_utils.answer_cut import read_no_more
from api_utils.bad_answer import BadAnswer
from api_utils.json_schema import parse_json, value_problem
from api_utils.prompt_form import DEFAULT_FORM, PromptForm, fill
from browser.capture.findings import Reasoning
from contract.api_error import ErrorCode

MOST_CALL_CHARS: Final = 1 << 18
"""Of one block, which is kept until its end."""
_MOST_NAMES: Final = 40
"""In the prompt for a repair, which is to be short."""
_MOST_HELD_CHARS: Final = 1024
"""Of text that may still turn out to stand before a call."""


@dataclass(frozen=True)
class ToolCall:
    """One call that the page's answer holds; `arguments` is the text of a JSON object that fits the tool's schema."""

    id: str
    name: str
    arguments: str = field(repr=False)


@dataclass(frozen=True)
class Tool:
    """One tool that the caller has. `parameters` is a JSON Schema."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class ToolUse:
    """The tools of one request, and how they are to be used.

    `required` asks for at least one call, `only` for calls of this tool; without `parallel` there is one call at most.
    """

    tools: Mapping[str, Tool]
    required: bool = False
    only: str | None = None
    parallel: bool = True

    def instructions(self, form: PromptForm = DEFAULT_FORM) -> str:
        """Return the section of the prompt that tells of the tools."""
        listed = [
            json.dumps(
                {"name": tool.name, "description": tool.description, "parameters": tool.parameters}, ensure_ascii=False
            )
            for tool in self.tools.values()
        ]
        return fill(form.tools, tools="\n".join(listed), **self._rules(form))

    def repair(self, problem: str, made: int, form: PromptForm = DEFAULT_FORM) -> str:
        """Return the prompt that asks for calls once more, after an answer with `made` good ones and a problem."""
        names = ", ".join([self.only] if self.only else [*self.tools][:_MOST_NAMES])
        if not self.only and len(self.tools) > _MOST_NAMES:
            names += " and the others listed above"
        rules = self._rules(form)
        if made:
            rules["choice"] = "Do not write the calls before it again: they were taken."
        return fill(form.repair_call, problem=problem, names=names, **rules)

    def _rules(self, form: PromptForm) -> dict[str, str]:
        choice = "If you need no tool, answer as usual."
        if self.required:
            choice = f"You must call {f'the tool {self.only}' if self.only else 'a tool'} now."
        return {
            "call": form.block('{"name": "NAME", "arguments": {}}'),
            "count": "Write one block for each call." if self.parallel else "Make at most one call.",
            "choice": choice,
        }

    def calls_in(self, block: str) -> list[ToolCall]:
        """Return the calls that a block holds: one, or a list. Raises BadAnswer."""
        try:
            given = parse_json(block)
        except ValueError:
            raise _bad("its call of a tool is not valid JSON") from None
        return [self._call(one) for one in (given if isinstance(given, list) else [given])]

    def _call(self, given: Any) -> ToolCall:
        name = given.get("name") if isinstance(given, dict) else None
        tool = self.tools.get(name) if isinstance(name, str) else None
        if tool is None or (self.only and name != self.only):
            raise _bad("it calls a tool that was not given")
        arguments = given.get("arguments", {})
        if isinstance(arguments, str):  # as OpenAI writes them
            with suppress(ValueError):
                arguments = parse_json(arguments)
        if not isinstance(arguments, dict):
            raise _bad(f"it calls {tool.name} with arguments that are no JSON object")
        problem = value_problem(tool.parameters, arguments)
        if problem:
            raise _bad(f"it calls {tool.name} with wrong arguments: {problem}")
        try:
            text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        except (ValueError, RecursionError):  # 1e999 is read as infinity
            raise _bad(f"it calls {tool.name} with a value that cannot be written as JSON") from None
        if any("\ud800" <= character <= "\udfff" for character in text):  # half of a pair, which UTF-8 does not have
            text = json.dumps(arguments)
        return ToolCall(f"call_{secrets.token_hex(12)}", tool.name, text)


def _bad(problem: str) -> BadAnswer:
    return BadAnswer(ErrorCode.BAD_TOOL_CALL, problem)


def write_call(name: str, arguments: str, form: PromptForm = DEFAULT_FORM) -> str:
    """Return one call as it stands in a prompt: as the page itself is asked to write it."""
    try:
        given = json.loads(arguments)
    except (ValueError, RecursionError):
        given = arguments
    return form.block(json.dumps({"name": name, "arguments": given}, ensure_ascii=False))


class ToolCallReader:
    """Tells calls from text while the answer comes. White space around a call belongs to neither."""

    def __init__(self, use: ToolUse, form: PromptForm = DEFAULT_FORM) -> None:
        """One answer's."""
        self._use = use
        self._first_line = form.call_begin
        self._opening = re.compile(rf"^[ \t]*{re.escape(form.call_begin)}[ \t]*\n", re.MULTILINE)
        self._closing = re.compile(rf"^[ \t]*{re.escape(form.call_end)}[ \t]*\n", re.MULTILINE)
        self._buffer = ""
        self._at_line_start = True
        self._in_block = False
        self._after_call = False
        self.calls = 0
        """How many calls the answer has held so far."""

    @property
    def has_all(self) -> bool:
        """Whether no further call may come."""
        return self.calls > 0 and not self._use.parallel

    def feed(self, piece: str) -> list[str | ToolCall]:
        """Return the text and the calls that are certain now. Raises BadAnswer."""
        # A closing fence is looked for from the last line that was not complete: the lines before it hold none.
        seen = self._buffer.rfind("\n") + 1
        self._buffer += piece
        found: list[str | ToolCall] = []
        while not self.has_all:
            if self._in_block:
                if len(self._buffer) > MOST_CALL_CHARS:
                    raise _bad("its call of a tool has no end")
                closing = self._closing.search(self._buffer, seen)
                if closing is None:
                    return found
                self._take_block(self._buffer[: closing.start()], found)
                self._buffer = self._buffer[closing.end() :]
                seen = 0
                continue
            fences = self._opening.finditer(self._buffer)
            opening = next((fence for fence in fences if fence.start() or self._at_line_start), None)
            if opening is None:
                self._pass(len(self._buffer) - self._held(), found)
                return found
            self._pass(len(self._buffer[: opening.start()].rstrip()), found)
            self._buffer = self._buffer.lstrip()[len(opening[0].lstrip()) :]
            self._in_block, seen = True, 0
        return found

    def end(self) -> list[str | ToolCall]:
        """Return what is left once the page has ended the answer. Raises BadAnswer."""
        found = self.feed("\n")  # a fence may be the last line
        if self._in_block and not self.has_all:
            self._take_block(self._buffer, found)
        elif not self.has_all:
            self._pass(len(self._buffer) - 1, found)
        if self._use.required and not self.calls:
            raise _bad("it holds no call of a tool, and tool_choice asks for one")
        return found

    def _take_block(self, block: str, found: list[str | ToolCall]) -> None:
        calls = self._use.calls_in(block)
        found += calls if self._use.parallel else calls[:1]
        self.calls += len(calls)
        self._in_block, self._after_call, self._at_line_start = False, True, True

    def _pass(self, size: int, found: list[str | ToolCall]) -> None:
        text, self._buffer = self._buffer[:size], self._buffer[size:]
        if self._after_call:
            text = text.lstrip()
        if text:
            found.append(text)
            self._after_call = False
            self._at_line_start = text.endswith("\n")

    def _held(self) -> int:
        """Return how many characters at the end may belong to a call: what may begin a fence, and white space."""
        line = self._buffer[self._buffer.rfind("\n") + 1 :]
        is_whole_line = len(line) < len(self._buffer) or self._at_line_start
        start = line.strip(" \t")
        may_open = is_whole_line and self._first_line.startswith(start)
        before = self._buffer[: len(self._buffer) - len(line)] if may_open else self._buffer
        held = len(self._buffer) - len(before.rstrip())
        return held if held <= _MOST_HELD_CHARS else 0


async def read_tool_calls(
    pieces: AsyncGenerator[str | Reasoning], reader: ToolCallReader
) -> AsyncGenerator[str | ToolCall | Reasoning]:
    """Yield an answer's text, calls and reasoning. Raises BadAnswer.

    Where no further call may come, the page is told to stop.
    """
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Reasoning):
                yield piece
                continue
            for item in reader.feed(piece):
                yield item
            if reader.has_all:
                await read_no_more(pieces)
                return
    for item in reader.end():
        yield item
