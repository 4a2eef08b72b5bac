"""Answers that are to be JSON: asked for in the prompt, and checked before the caller gets them.

`response_format`: https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from api_utils.bad_answer import BadAnswer
from api_utils.json_schema import parse_json, value_problem
from api_utils.prompt_form import DEFAULT_FORM, PromptForm, fill
from api_utils.tools import ToolCall
from browser.capture.findings import Reasoning
from contract.api_error import ErrorCode

_FENCED: Final = re.compile(r"```[\w-]*[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)


@dataclass(frozen=True)
class JsonFormat:
    """What an answer is to be: a JSON object, or with `schema` what fits this JSON Schema."""

    schema: Mapping[str, Any] | None = None

    def instructions(self, form: PromptForm = DEFAULT_FORM) -> str:
        """Return the section of the prompt that tells of it."""
        if self.schema is None:
            return form.json_object
        return fill(form.json_schema, schema=json.dumps(self.schema, ensure_ascii=False))

    def repair(self, problem: str, form: PromptForm = DEFAULT_FORM) -> str:
        """Return the prompt that asks for it once more."""
        return fill(form.repair_json, problem=problem, format=self.instructions(form))

    def json_in(self, answer: str) -> str:
        """Return the JSON of an answer, out of the one code fence around it. Raises BadAnswer if it is not as asked."""
        text = answer.strip()
        if fenced := _FENCED.fullmatch(text):
            text = fenced[1].strip()
        try:
            value = parse_json(text)
        except ValueError:
            raise _bad("it is not JSON, as the request asks") from None
        if self.schema is None and not isinstance(value, dict):
            raise _bad("it is no JSON object, as the request asks")
        if self.schema is not None and (problem := value_problem(self.schema, value)):
            raise _bad(f"it does not fit the JSON Schema of the request: {problem}")
        return text


def _bad(problem: str) -> BadAnswer:
    return BadAnswer(ErrorCode.BAD_FORMAT, problem)


async def read_json(
    items: AsyncGenerator[str | ToolCall | Reasoning], wanted: JsonFormat, was_cut: Callable[[], bool]
) -> AsyncGenerator[str | ToolCall | Reasoning]:
    """Yield an answer's reasoning, and its JSON in one piece, once it is complete.

    Raises BadAnswer if it is not as asked. An answer with calls of tools, and one that `was_cut` at the most tokens,
    comes as it is.
    """
    texts, has_calls = [], False
    async with aclosing(items):
        async for item in items:
            if isinstance(item, str):
                texts.append(item)
            else:
                has_calls = has_calls or isinstance(item, ToolCall)
                yield item
    text = "".join(texts)
    if not has_calls:
        yield text if was_cut() else wanted.json_in(text)
    elif text:
        yield text
