"""aider, by its own classes: https://aider.chat/docs/scripting.html and https://aider.chat/docs/llms/openai-compat.html"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from aider.coders import Coder
from aider.io import InputOutput
from aider.models import Model, register_litellm_models

from tests.clients.python.protocol import Row, serve


class Failed(Exception):
    """aider gave up; what it printed last."""


class Printed(InputOutput):
    """Keeps what aider tells its user of errors, for it raises none."""

    errors: list[str]

    def tool_error(self, message: str = "", strip: bool = True) -> None:
        self.errors.append(message)


def start(row: Row, **more: Any) -> Any:
    os.chdir(row.folder)
    os.environ.update(OPENAI_API_BASE=row.base_url, OPENAI_API_KEY=row.api_key)
    printed = Printed(yes=True, pretty=False)
    printed.errors = []
    name = f"openai/{row.model}"
    metadata = Path("models.json")
    metadata.write_text(json.dumps({name: {"litellm_provider": "openai", "mode": "chat", "supports_vision": True}}))
    register_litellm_models([str(metadata)])
    model = Model(name, weak_model=name)
    if row.headers:
        model.extra_params = {"extra_headers": dict(row.headers)}
    return Coder.create(main_model=model, edit_format="ask", io=printed, use_git=False, **more)


def ask(coder: Any, prompt: str) -> str:
    answer = coder.run(prompt)
    if coder.io.errors:
        raise Failed("\n".join(coder.io.errors))
    return str(answer)


def chat(row: Row) -> dict[str, Any]:
    return {"text": ask(start(row, stream=False), row.prompt)}


def stream(row: Row) -> dict[str, Any]:
    return {"pieces": list(start(row, stream=True).run_stream(row.prompt))}


def history(row: Row) -> dict[str, Any]:
    (_, first), _ = row.turns
    coder = start(row)
    ask(coder, first)
    return {"text": ask(coder, row.prompt)}


def image(row: Row) -> dict[str, Any]:
    picture = Path(row.folder) / "picture.png"
    picture.write_bytes(base64.b64decode(row.image.partition(",")[2]))
    return {"text": ask(start(row, fnames=[str(picture)]), row.prompt)}


if __name__ == "__main__":
    serve({"chat": chat, "stream": stream, "history": history, "image": image})
