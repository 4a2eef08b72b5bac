"""Anthropic's own SDK, on Messages: https://github.com/anthropics/anthropic-sdk-python"""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic

from tests.clients.python.protocol import WEATHER_DESCRIPTION, Row, serve

WEATHER: Any = {
    "name": "weather",
    "description": WEATHER_DESCRIPTION,
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def connect(row: Row) -> Any:
    return Anthropic(base_url=row.base_url.removesuffix("/v1"), api_key=row.api_key, default_headers=row.headers)


def request(row: Row) -> dict[str, Any]:
    content: Any = row.prompt
    if row.image:
        source = {"type": "base64", "media_type": "image/png", "data": row.image.partition(",")[2]}
        content = [{"type": "image", "source": source}, {"type": "text", "text": row.prompt}]
    earlier = [{"role": role, "content": text} for role, text in row.turns]
    return {"model": row.model, "max_tokens": 1000, "messages": [*earlier, {"role": "user", "content": content}]}


def text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def models(row: Row) -> dict[str, Any]:
    return {"models": [model.id for model in connect(row).models.list()]}


def chat(row: Row) -> dict[str, Any]:
    return {"text": text(connect(row).messages.create(**request(row)))}


def stream(row: Row) -> dict[str, Any]:
    with connect(row).messages.stream(**request(row)) as events:
        return {"pieces": list(events.text_stream)}


def tools(row: Row) -> dict[str, Any]:
    create, first = connect(row).messages.create, request(row)
    asked = create(**first, tools=[WEATHER])
    (call,) = [block for block in asked.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": row.tool_result}
    turns = [{"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    answer = create(**{**first, "messages": [*first["messages"], *turns]}, tools=[WEATHER])
    return {"called": [call.input], "text": text(answer)}


def structured(row: Row) -> dict[str, Any]:
    """Have the data given as the arguments of a tool, which the page is told to call."""
    place = {"type": "object", "properties": {"city": {"type": "string"}, "visits": {"type": "integer"}}}
    tool = {"name": "Place", "input_schema": {**place, "required": ["city", "visits"]}}
    choice = {"type": "tool", "name": "Place"}
    answer = connect(row).messages.create(**request(row), tools=[tool], tool_choice=choice)
    return {"data": answer.content[0].input}


def stop(row: Row) -> dict[str, Any]:
    return {"text": text(connect(row).messages.create(**request(row), stop_sequences=[row.stop]))}


if __name__ == "__main__":
    serve(
        {
            "models": models,
            "chat": chat,
            "stream": stream,
            "history": chat,
            "image": chat,
            "tools": tools,
            "structured": structured,
            "stop": stop,
        }
    )
