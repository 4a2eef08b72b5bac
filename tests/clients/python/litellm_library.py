"""LiteLLM as a library: https://docs.litellm.ai/docs/providers/openai_compatible"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import litellm
from pydantic import BaseModel

from tests.clients.python.protocol import WEATHER, Row, Scenario, serve

Ask = Callable[..., Any]
"""Takes a row, its messages and more arguments of `litellm.completion`; returns the response, or its stream."""


class Place(BaseModel):
    city: str
    visits: int


def scenarios(ask: Ask) -> dict[str, Scenario]:
    """Return the scenarios for one of the ways to call LiteLLM."""

    def chat(row: Row) -> dict[str, Any]:
        return {"text": ask(row, row.messages()).choices[0].message.content}

    def stream(row: Row) -> dict[str, Any]:
        return {"pieces": [chunk.choices[0].delta.content or "" for chunk in ask(row, row.messages(), stream=True)]}

    def tools(row: Row) -> dict[str, Any]:
        asked = ask(row, row.messages(), tools=[WEATHER]).choices[0].message
        (call,) = asked.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": row.tool_result}
        answer = ask(row, [*row.messages(), asked, result], tools=[WEATHER]).choices[0].message
        return {"called": [json.loads(call.function.arguments)], "text": answer.content}

    def structured(row: Row) -> dict[str, Any]:
        text = ask(row, row.messages(), response_format=Place).choices[0].message.content
        return {"data": Place.model_validate_json(text).model_dump()}

    def stop(row: Row) -> dict[str, Any]:
        return {"text": ask(row, row.messages(), stop=[row.stop]).choices[0].message.content}

    return {
        "chat": chat,
        "stream": stream,
        "history": chat,
        "image": chat,
        "tools": tools,
        "structured": structured,
        "stop": stop,
    }


def ask(row: Row, messages: list[Any], **more: Any) -> Any:
    server = {"api_base": row.base_url, "api_key": row.api_key, "extra_headers": dict(row.headers)}
    return litellm.completion(model=f"openai/{row.model}", messages=messages, **server, **more)


def models(row: Row) -> dict[str, Any]:
    found = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_base=row.base_url, api_key=row.api_key
    )
    return {"models": found}


if __name__ == "__main__":
    serve({"models": models, **scenarios(ask)})
