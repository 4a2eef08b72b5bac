"""The words in which a page is told of tools and formats: a site file's `[prompt]`, or those here.

A `{name}` stands for what the request fills in; which names each text knows, `browser.site.schema.PromptTexts` says.
The words are part of the API: callers may rely on their form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from browser.site.schema import PLACEHOLDER, PromptTexts


@dataclass(frozen=True)
class PromptForm:
    """The texts, under the names that a site file has for them."""

    call_begin: str = "```tool_call"
    call_end: str = "```"
    tools: str = (
        "You can call the tools listed below. To call one, write a block of exactly this form:\n\n{call}\n\n"
        "`arguments` is a JSON object that fits the tool's JSON Schema in `parameters`.\n"
        "Do not write anything after a call: its result comes with the next message.\n{count}\n{choice}\n\n{tools}"
    )
    json_object: str = "Answer with one JSON object and nothing else: no other words, no code fence."
    json_schema: str = (
        "Answer with JSON that fits the following JSON Schema and nothing else: no other words, no code fence.\n"
        "{schema}"
    )
    repair_call: str = (
        "Your last answer cannot be used: {problem}. Write what was wrong once more, each call of a tool as a block of "
        "exactly this form:\n\n{call}\n\nThe tools that can be called are {names}, with arguments that fit the JSON "
        "Schemas given above.\n{count}\n{choice}"
    )
    repair_json: str = "Your last answer cannot be used: {problem}.\n{format}"

    @classmethod
    def of(cls, texts: PromptTexts) -> Self:
        """Return the texts of a site file, and those here where it has none."""
        return cls(**texts.model_dump(exclude_none=True))

    def block(self, content: str) -> str:
        """Return one call of a tool as it stands in a prompt and in an answer."""
        return f"{self.call_begin}\n{content}\n{self.call_end}"


DEFAULT_FORM: Final = PromptForm()


def fill(template: str, **values: str) -> str:
    """Return the text with its placeholders filled in; what is filled in is not looked at again."""
    return PLACEHOLDER.sub(lambda found: values[found[1]], template)
