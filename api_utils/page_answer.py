"""The page's answer to a request: read, held against what the request asks for, and once asked for anew.

An answer with a bad call of a tool, or that is not the JSON asked for, is not passed on. The page is told what was
wrong, in the same conversation, and its second answer is taken instead: one more submission, and no third.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

import structlog

from api_utils.answer_cut import AnswerCut, AnswerEnd, FinishReason, cut_short
from api_utils.bad_answer import BadAnswer
from api_utils.json_answer import read_json
from api_utils.prompt import Prompt
from api_utils.tools import ToolCall, ToolCallReader, ToolUse, read_tool_calls
from api_utils.usage import Usage
from browser.capture.findings import Reasoning
from browser.page.chat_page import ChatPage
from contract.api_error import ErrorCode

log = structlog.get_logger(__name__)

AnswerItem: TypeAlias = str | ToolCall | Reasoning
"""A part of an answer: text, a call, or what the page shows of its reasoning."""


class PageAnswer:
    """One request's answer. `max_tokens` and `stop` hold over all that the page writes for it."""

    def __init__(self, page: ChatPage, prompt: Prompt) -> None:
        """The page is asked when `items` is read."""
        self._page = page
        self._prompt = prompt
        self._form = prompt.form
        self._cut = AnswerCut(prompt.limits)
        self._typed_bytes = 0
        self._calls: list[ToolCall] = []
        self._has_text = False
        self._reasoning_bytes = 0

    @property
    def end(self) -> AnswerEnd:
        """How it ended, once it has."""
        reason: FinishReason = "tool_calls" if self._calls else self._cut.finish_reason
        usage = Usage.of(self._typed_bytes, self._cut.passed_bytes, self._reasoning_bytes)
        return AnswerEnd(reason, usage, self._cut.stop_sequence)

    async def items(self) -> AsyncGenerator[AnswerItem]:
        """Yield its text, its calls and its reasoning as they come. Raises ApiError, BrowserError."""
        prompt = self._prompt
        async with self._page.converse(prompt.request_id, prompt.model) as conversation:
            try:
                asked = conversation.ask(self._typed(prompt.text), prompt.images)
                async with aclosing(self._read(asked, prompt.tool_use)) as items:
                    async for item in items:
                        self._note(item)
                        yield item
            except BadAnswer as bad:
                if self._cut.reached:  # the caller wants no more than this
                    raise
                repair = self._repair(bad)
            else:
                return
            self._cut.begin_again()
            # What was asked for has come in part: a call that must be there need not come again.
            use = prompt.tool_use and replace(prompt.tool_use, required=prompt.tool_use.required and not self._calls)
            async with aclosing(self._read(conversation.ask(self._typed(repair)), use)) as items:
                async for item in self._second(items):
                    self._note(item)
                    yield item

    def _typed(self, text: str) -> str:
        self._typed_bytes += len(text.encode())
        return text

    def _note(self, item: AnswerItem) -> None:
        if isinstance(item, ToolCall):
            self._calls.append(item)
        elif isinstance(item, Reasoning):
            self._reasoning_bytes += len(item.text.encode(errors="replace"))
        else:
            self._has_text = True

    def _read(self, asked: AsyncGenerator[str | Reasoning], use: ToolUse | None) -> AsyncGenerator[AnswerItem]:
        pieces = cut_short(asked, self._cut)
        items: AsyncGenerator[AnswerItem] = pieces
        if use:
            items = read_tool_calls(pieces, ToolCallReader(use, self._form))
        if self._prompt.json_format:
            items = read_json(items, self._prompt.json_format, lambda: self._cut.finish_reason == "length")
        return items

    def _repair(self, bad: BadAnswer) -> str:
        use, wanted = self._prompt.tool_use, self._prompt.json_format
        log.info("repair_asked", request=self._prompt.request_id, reason=bad.code)
        if use and bad.code is ErrorCode.BAD_TOOL_CALL:
            return use.repair(bad.problem, len(self._calls), self._form)
        if wanted and bad.code is ErrorCode.BAD_FORMAT:
            return wanted.repair(bad.problem, self._form)
        raise bad

    async def _second(self, items: AsyncGenerator[AnswerItem]) -> AsyncGenerator[AnswerItem]:
        """Yield the calls of the second answer, or its text if it has none.

        Words beside the calls are about the repair, and a call that was passed on already must not be made twice.
        """
        made = {(call.name, call.arguments) for call in self._calls}
        texts, has_calls = [], False
        async for item in items:
            if isinstance(item, str):
                texts.append(item)
            elif isinstance(item, Reasoning):
                yield item
            else:
                has_calls = True
                if (item.name, item.arguments) not in made:
                    yield item
        text = "".join(texts)
        if text and not has_calls:
            yield f"\n\n{text}" if self._has_text else text
