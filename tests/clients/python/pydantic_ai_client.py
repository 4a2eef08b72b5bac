"""Pydantic AI: https://ai.pydantic.dev/models/openai/#openai-compatible-models"""

from __future__ import annotations

import base64
from typing import Any

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from tests.clients.python.protocol import Row, serve


class Place(BaseModel):
    city: str
    visits: int


def agent(row: Row, **more: Any) -> Any:
    client = AsyncOpenAI(base_url=row.base_url, api_key=row.api_key, default_headers=row.headers)
    return Agent(OpenAIChatModel(row.model, provider=OpenAIProvider(openai_client=client)), **more)


def chat(row: Row) -> dict[str, Any]:
    return {"text": agent(row).run_sync(row.prompt).output}


def stream(row: Row) -> dict[str, Any]:
    return {"pieces": list(agent(row).run_stream_sync(row.prompt).stream_text(delta=True, debounce_by=None))}


def history(row: Row) -> dict[str, Any]:
    (_, question), (_, answer) = row.turns
    earlier = [ModelRequest(parts=[UserPromptPart(question)]), ModelResponse(parts=[TextPart(answer)])]
    return {"text": agent(row).run_sync(row.prompt, message_history=earlier).output}


def image(row: Row) -> dict[str, Any]:
    picture = BinaryContent(base64.b64decode(row.image.partition(",")[2]), media_type="image/png")
    return {"text": agent(row).run_sync([row.prompt, picture]).output}


def tools(row: Row) -> dict[str, Any]:
    asked = []

    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append({"city": city})
        return row.tool_result

    return {"text": agent(row, tools=[weather]).run_sync(row.prompt).output, "called": asked}


def structured(row: Row) -> dict[str, Any]:
    return {"data": agent(row, output_type=Place).run_sync(row.prompt).output.model_dump()}


def stop(row: Row) -> dict[str, Any]:
    settings = ModelSettings(stop_sequences=[row.stop])
    return {"text": agent(row).run_sync(row.prompt, model_settings=settings).output}


if __name__ == "__main__":
    serve(
        {
            "chat": chat,
            "stream": stream,
            "history": history,
            "image": image,
            "tools": tools,
            "structured": structured,
            "stop": stop,
        }
    )
