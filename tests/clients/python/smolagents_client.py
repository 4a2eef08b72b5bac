"""smolagents' CodeAgent: https://huggingface.co/docs/smolagents/reference/models#openaimodel"""

from __future__ import annotations

import base64
import io
import json
from typing import Any

from PIL import Image
from smolagents import ChatMessageStreamDelta, CodeAgent, OpenAIModel, tool

from tests.clients.python.protocol import Row, serve


def agent(row: Row, **more: Any) -> Any:
    more_headers = {"default_headers": row.headers}
    model = OpenAIModel(model_id=row.model, api_base=row.base_url, api_key=row.api_key, client_kwargs=more_headers)
    return CodeAgent(tools=more.pop("tools", []), model=model, max_steps=2, verbosity_level=0, **more)


def chat(row: Row) -> dict[str, Any]:
    return {"text": agent(row).run(row.prompt)}


def stream(row: Row) -> dict[str, Any]:
    deltas = agent(row, stream_outputs=True).run(row.prompt, stream=True)
    return {"pieces": [delta.content or "" for delta in deltas if isinstance(delta, ChatMessageStreamDelta)]}


def history(row: Row) -> dict[str, Any]:
    (_, first), _ = row.turns
    running = agent(row)
    running.run(first)
    return {"text": running.run(row.prompt, reset=False)}


def image(row: Row) -> dict[str, Any]:
    picture = Image.open(io.BytesIO(base64.b64decode(row.image.partition(",")[2])))
    return {"text": agent(row).run(row.prompt, images=[picture])}


def tools(row: Row) -> dict[str, Any]:
    asked = []

    @tool
    def weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: its name.
        """
        asked.append({"city": city})
        return row.tool_result

    return {"text": agent(row, tools=[weather]).run(row.prompt), "called": asked}


def structured(row: Row) -> dict[str, Any]:
    """Have the agent's own JSON form used, which it asks for by `response_format`."""
    answer = agent(row, use_structured_outputs_internally=True).run(row.prompt)
    return {"data": json.loads(answer) if isinstance(answer, str) else answer}


def stop(row: Row) -> dict[str, Any]:
    model = OpenAIModel(model_id=row.model, api_base=row.base_url, api_key=row.api_key)
    return {"text": model.generate(row.messages(), stop_sequences=[row.stop]).content}


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
