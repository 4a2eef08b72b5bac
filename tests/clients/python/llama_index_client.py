"""LlamaIndex: https://developers.llamaindex.ai/python/framework-api-reference/llms/openai_like/"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from tests.clients.python.protocol import Row, serve


class Place(BaseModel):
    """A place and how often it was visited."""

    city: str
    visits: int


def connect(row: Row, **more: Any) -> Any:
    return OpenAILike(
        model=row.model,
        api_base=row.base_url,
        api_key=row.api_key,
        default_headers=dict(row.headers),
        is_chat_model=True,
        is_function_calling_model=True,
        **more,
    )


def conversation(row: Row) -> list[Any]:
    earlier = [ChatMessage(role=role, content=text) for role, text in row.turns]
    blocks: list[Any] = [TextBlock(text=row.prompt)]
    if row.image:
        blocks.append(ImageBlock(image=base64.b64decode(row.image.partition(",")[2])))
    return [*earlier, ChatMessage(role="user", blocks=blocks)]


def chat(row: Row) -> dict[str, Any]:
    return {"text": connect(row).chat(conversation(row)).message.content}


def stream(row: Row) -> dict[str, Any]:
    return {"pieces": [part.delta or "" for part in connect(row).stream_chat(conversation(row))]}


def tools(row: Row) -> dict[str, Any]:
    asked = []

    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append({"city": city})
        return row.tool_result

    async def run() -> str:
        return str(await FunctionAgent(llm=connect(row), tools=[weather]).run(row.prompt))

    return {"text": asyncio.run(run()), "called": asked}


def structured(row: Row) -> dict[str, Any]:
    return {"data": connect(row).as_structured_llm(Place).chat(conversation(row)).raw.model_dump()}


def stop(row: Row) -> dict[str, Any]:
    return {"text": connect(row).chat(conversation(row), stop=[row.stop]).message.content}


if __name__ == "__main__":
    serve(
        {
            "chat": chat,
            "stream": stream,
            "history": chat,
            "image": chat,
            "tools": tools,
            "structured": structured,
            "stop": stop,
        }
    )
