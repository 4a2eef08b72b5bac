"""LangChain: https://docs.langchain.com/oss/python/integrations/chat/openai"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.clients.python.protocol import Row, serve


class Place(BaseModel):
    """A place and how often it was visited."""

    city: str
    visits: int


def connect(row: Row, **more: Any) -> Any:
    return ChatOpenAI(
        base_url=row.base_url, api_key=row.api_key, model=row.model, default_headers=row.headers or None, **more
    )


def chat(row: Row) -> dict[str, Any]:
    return {"text": connect(row).invoke(row.messages()).content}


def stream(row: Row) -> dict[str, Any]:
    return {"pieces": [chunk.content for chunk in connect(row).stream(row.messages())]}


def tools(row: Row) -> dict[str, Any]:
    asked = []

    @tool
    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append({"city": city})
        return row.tool_result

    agent = create_agent(connect(row), [weather])
    return {"text": agent.invoke({"messages": row.messages()})["messages"][-1].content, "called": asked}


def structured(row: Row) -> dict[str, Any]:
    return {"data": connect(row).with_structured_output(Place).invoke(row.messages()).model_dump()}


def stop(row: Row) -> dict[str, Any]:
    return {"text": connect(row, stop=[row.stop]).invoke(row.messages()).content}


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
