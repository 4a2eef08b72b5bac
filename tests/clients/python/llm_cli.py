"""llm, the command line: https://llm.datasette.io/en/stable/other-models.html#openai-compatible-models"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from tests.clients.python.protocol import PLACE, Row, serve

LLM = str(Path(sys.executable).with_name("llm"))
FUNCTIONS = '''
import json

def weather(city: str) -> str:
    """The weather in a city."""
    with open({called!r}, "a") as file:
        print(json.dumps({{"city": city}}), file=file)
    return {result!r}
'''


class Failed(Exception):
    """The command line ended with an error, which it printed."""


def start(row: Row, prompt: str, *options: str) -> subprocess.Popen[bytes]:
    """Start `llm` with the row's server in its file of models."""
    lines = [f"model_id: {row.model}", f"model_name: {row.model}", f"api_base: {row.base_url}"]
    lines += [f"headers: {json.dumps(dict(row.headers))}"]  # JSON is YAML
    lines += ["api_key_name: tabfleet", "vision: true", "supports_schema: true", "supports_tools: true"]
    (Path(row.folder) / "extra-openai-models.yaml").write_text("- " + "\n  ".join(lines) + "\n")
    command = [LLM, "-m", row.model, "--key", row.api_key, *options, prompt]
    environment = {**os.environ, "LLM_USER_PATH": row.folder}
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def fail(process: subprocess.Popen[bytes]) -> NoReturn:
    assert process.stderr is not None
    raise Failed(process.stderr.read().decode())


def ask(row: Row, *options: str, prompt: str | None = None) -> str:
    process = start(row, prompt or row.prompt, "--no-stream", *options)
    out, error = process.communicate()
    if process.returncode:
        raise Failed(error.decode())
    return out.decode().removesuffix("\n")


def chat(row: Row) -> dict[str, Any]:
    return {"text": ask(row)}


def stream(row: Row) -> dict[str, Any]:
    process = start(row, row.prompt)
    assert process.stdout is not None
    out = process.stdout.fileno()
    pieces = list(iter(lambda: os.read(out, 65536), b""))
    if process.wait():
        fail(process)
    *most, last = [piece.decode() for piece in pieces]
    return {"pieces": [*most, last.removesuffix("\n")]}


def history(row: Row) -> dict[str, Any]:
    (_, first), _ = row.turns
    ask(row, prompt=first)
    return {"text": ask(row, "--continue")}


def image(row: Row) -> dict[str, Any]:
    picture = Path(row.folder) / "picture.png"
    picture.write_bytes(base64.b64decode(row.image.partition(",")[2]))
    return {"text": ask(row, "--attachment", str(picture))}


def tools(row: Row) -> dict[str, Any]:
    called = Path(row.folder) / "called"
    text = ask(row, "--functions", FUNCTIONS.format(called=str(called), result=row.tool_result))
    return {"text": text, "called": [json.loads(line) for line in called.read_text().splitlines()]}


def structured(row: Row) -> dict[str, Any]:
    return {"data": json.loads(ask(row, "--schema", json.dumps(PLACE)))}


def stop(row: Row) -> dict[str, Any]:
    return {"text": ask(row, "--option", "stop", row.stop)}


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
