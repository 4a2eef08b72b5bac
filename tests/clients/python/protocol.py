"""How a test talks to a client's process: one JSON line in for each row, one JSON line out.

A process serves all rows of its client, because importing a client takes longer than most rows. Only the standard
library is imported here: the environment is the client's own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

WEATHER_DESCRIPTION = "The weather in a city."
SYSTEM = "Be brief."


@dataclass(frozen=True)
class Row:
    """What one row asks of the client; what a scenario does not need is empty.

    `base_url` ends in `/v1`, and `headers` go with each request beside the client's own. `turns` are (role, text) of
    earlier messages, `image` is a `data:` URL, `tool_result` is what the tool `weather` returns, and `folder` is an
    empty folder for the row's files.
    """

    scenario: str
    base_url: str
    api_key: str
    model: str
    prompt: str
    folder: str
    turns: tuple[tuple[str, str], ...] = ()
    image: str = ""
    tool_result: str = ""
    stop: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def messages(self) -> list[dict[str, Any]]:
        """Return the conversation in OpenAI's form, with the prompt as its last message."""
        earlier = [{"role": role, "content": text} for role, text in self.turns]
        content: Any = self.prompt
        if self.image:
            content = [
                {"type": "text", "text": self.prompt},
                {"type": "image_url", "image_url": {"url": self.image}},
            ]
        return [*earlier, {"role": "user", "content": content}]


WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": WEATHER_DESCRIPTION,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "visits": {"type": "integer"}},
    "required": ["city", "visits"],
    "additionalProperties": False,
}

Scenario = Callable[[Row], dict[str, Any]]


def serve(scenarios: Mapping[str, Scenario]) -> None:
    """Answer rows until stdin ends. What the client itself prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        row = Row(**json.loads(line))
        answers.write(json.dumps(_run(scenarios[row.scenario], row)) + "\n")
        answers.flush()


def _run(scenario: Scenario, row: Row) -> dict[str, Any]:
    try:
        return scenario(row)
    except Exception as error:  # noqa: BLE001 - whatever the client raises is what the row has measured
        return {"error": {"name": type(error).__name__, "status": _status(error), "message": str(error)[:2000]}}


def _status(error: BaseException | None) -> int | None:
    """Return the HTTP status that the client's exception, or one that it was raised from, tells."""
    while error is not None:
        for name in ("status_code", "status", "code"):
            if isinstance(status := getattr(error, name, None), int):
                return status
        error = error.__cause__ or error.__context__
    return None
