"""The OpenAI Agents SDK on Chat Completions: https://openai.github.io/openai-agents-python/models/"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from agents import (
    Agent,
    HandoffInputData,
    ModelSettings,
    OpenAIChatCompletionsModel,
    Runner,
    function_tool,
    handoff,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.clients.python.protocol import Row, serve


class Place(BaseModel):
    city: str
    visits: int


def agent(row: Row, name: str = "Assistant", **more: Any) -> Any:
    client = AsyncOpenAI(base_url=row.base_url, api_key=row.api_key, default_headers=row.headers)
    return Agent(name=name, model=OpenAIChatCompletionsModel(model=row.model, openai_client=client), **more)


def run(agent: Any, conversation: Any) -> Any:
    return Runner.run_sync(agent, conversation).final_output


def chat(row: Row) -> dict[str, Any]:
    return {"text": run(agent(row), row.prompt)}


def stream(row: Row) -> dict[str, Any]:
    async def pieces() -> list[str]:
        events = Runner.run_streamed(agent(row), row.prompt).stream_events()
        raw = [event.data async for event in events if event.type == "raw_response_event"]
        return [event.delta for event in raw if event.type == "response.output_text.delta"]

    return {"pieces": asyncio.run(pieces())}


def history(row: Row) -> dict[str, Any]:
    return {"text": run(agent(row), row.messages())}


def image(row: Row) -> dict[str, Any]:
    content = [{"type": "input_text", "text": row.prompt}, {"type": "input_image", "image_url": row.image}]
    return {"text": run(agent(row), [{"role": "user", "content": content}])}


def tools(row: Row) -> dict[str, Any]:
    asked = []

    @function_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append({"city": city})
        return row.tool_result

    return {"text": run(agent(row, tools=[weather]), row.prompt), "called": asked}


def handoffs(row: Row) -> dict[str, Any]:
    """Let the first agent hand over to the second, which sees the row's `tool_result` as what the user says next."""

    def go_on(data: HandoffInputData) -> HandoffInputData:
        items = data.input_history if isinstance(data.input_history, tuple) else ()
        user: Any = {"role": "user", "content": row.tool_result}
        return dataclasses.replace(data, input_history=(*items, user), pre_handoff_items=(), new_items=())

    second = agent(row, "Weather")
    first = agent(row, "Triage", handoffs=[handoff(second, input_filter=go_on)])
    result = Runner.run_sync(first, [{"role": "user", "content": row.prompt}])
    return {"text": result.final_output, "by": result.last_agent.name}


def structured(row: Row) -> dict[str, Any]:
    return {"data": run(agent(row, output_type=Place), row.prompt).model_dump()}


def stop(row: Row) -> dict[str, Any]:
    settings = ModelSettings(extra_args={"stop": [row.stop]})
    return {"text": run(agent(row, model_settings=settings), row.prompt)}


if __name__ == "__main__":
    serve(
        {
            "chat": chat,
            "stream": stream,
            "history": history,
            "image": image,
            "tools": tools,
            "handoff": handoffs,
            "structured": structured,
            "stop": stop,
        }
    )
