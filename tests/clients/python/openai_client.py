"""OpenAI's own SDK: https://github.com/openai/openai-python"""

from __future__ import annotations

import json
from typing import Any

from openai import OpenAI
from openai.types.chat import ChatCompletionMessage
from pydantic import BaseModel

from tests.clients.python.protocol import WEATHER, Row, Scenario, serve


class Place(BaseModel):
    city: str
    visits: int


def connect(row: Row) -> OpenAI:
    return OpenAI(base_url=row.base_url, api_key=row.api_key, default_headers=row.headers)


def ask(row: Row, messages: list[Any], **more: Any) -> ChatCompletionMessage:
    answer = connect(row).chat.completions.create(model=row.model, messages=messages, **more)
    message: ChatCompletionMessage = answer.choices[0].message
    return message


def models(row: Row) -> dict[str, Any]:
    return {"models": [model.id for model in connect(row).models.list()]}


def chat(row: Row) -> dict[str, Any]:
    return {"text": ask(row, row.messages()).content}


def stream(row: Row) -> dict[str, Any]:
    messages: Any = row.messages()
    chunks = connect(row).chat.completions.create(model=row.model, messages=messages, stream=True)
    return {"pieces": [chunk.choices[0].delta.content or "" for chunk in chunks]}


def tools(row: Row) -> dict[str, Any]:
    asked = ask(row, row.messages(), tools=[WEATHER])
    (call,) = asked.tool_calls or []
    assert call.type == "function"
    result = {"role": "tool", "tool_call_id": call.id, "content": row.tool_result}
    answer = ask(row, [*row.messages(), asked.to_dict(), result], tools=[WEATHER])
    return {"called": [json.loads(call.function.arguments)], "text": answer.content}


def structured(row: Row) -> dict[str, Any]:
    messages: Any = row.messages()
    answer = connect(row).chat.completions.parse(model=row.model, messages=messages, response_format=Place)
    place = answer.choices[0].message.parsed
    return {"data": place and place.model_dump()}


def stop(row: Row) -> dict[str, Any]:
    return {"text": ask(row, row.messages(), stop=[row.stop]).content}


SCENARIOS: dict[str, Scenario] = {
    "models": models,
    "chat": chat,
    "stream": stream,
    "history": chat,
    "image": chat,
    "tools": tools,
    "structured": structured,
    "stop": stop,
}

if __name__ == "__main__":
    serve(SCENARIOS)
