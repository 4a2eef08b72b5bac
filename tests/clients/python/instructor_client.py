"""instructor: https://python.useinstructor.com/integrations/openai/"""

from __future__ import annotations

import itertools
from typing import Any

import instructor
from openai import OpenAI
from pydantic import BaseModel

from tests.clients.python.protocol import Row, serve


class Place(BaseModel):
    city: str
    visits: int


class Answer(BaseModel):
    text: str


def connect(row: Row) -> Any:
    return instructor.from_openai(OpenAI(base_url=row.base_url, api_key=row.api_key, default_headers=row.headers))


def ask(row: Row, form: Any, **more: Any) -> Any:
    messages = row.messages()
    return connect(row).chat.completions.create(model=row.model, response_model=form, messages=messages, **more)


def chat(row: Row) -> dict[str, Any]:
    return {"text": ask(row, Answer).text}


def stream(row: Row) -> dict[str, Any]:
    """Have an answer that grows: each piece is what has come since the last one."""
    texts = [
        part.text or ""
        for part in connect(row).chat.completions.create_partial(
            model=row.model, response_model=Answer, messages=row.messages()
        )
    ]
    return {"pieces": [new.removeprefix(old) for old, new in itertools.pairwise(["", *texts])]}


def structured(row: Row) -> dict[str, Any]:
    return {"data": ask(row, Place).model_dump()}


if __name__ == "__main__":
    serve({"chat": chat, "stream": stream, "history": chat, "image": chat, "structured": structured})
