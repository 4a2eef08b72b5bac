"""LiteLLM's proxy between OpenAI's SDK and the row's server: https://docs.litellm.ai/docs/simple_proxy"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tests.clients.python import openai_client
from tests.clients.python.protocol import Row, Scenario, serve
from tests.clients.python.server import start_server

MASTER_KEY = "sk-proxy"
MODELS = ("demo-small", "demo-large", "demo-echo")

_running: dict[tuple[str, str], str] = {}


def proxy(row: Row) -> str:
    """Start a proxy for the row's address and key, unless it runs; return its base URL. It ends with this process."""
    if (row.base_url, row.api_key) not in _running:
        _running[row.base_url, row.api_key] = start(row)
    return _running[row.base_url, row.api_key]


def start(row: Row) -> str:
    """Start a proxy with its default settings."""
    server = {"api_base": row.base_url, "api_key": row.api_key}
    models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **server}} for name in MODELS]
    config = Path(row.folder) / "config.yaml"
    settings = {"general_settings": {"master_key": MASTER_KEY}, "model_list": models}
    config.write_text(json.dumps(settings))  # JSON is YAML
    return (
        start_server(
            "litellm",
            lambda port: ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
            health="/health/liveliness",
            folder=row.folder,
            environment={},
        )
        + "/v1"
    )


def behind(scenario: Scenario) -> Scenario:
    """Run a scenario of OpenAI's SDK with the proxy's address and key."""
    return lambda row: scenario(dataclasses.replace(row, base_url=proxy(row), api_key=MASTER_KEY))


def chat(row: Row) -> dict[str, Any]:
    """Have the proxy send the row's headers on: it takes them from the body, and keeps a client's own to itself."""
    more = {"extra_body": {"extra_headers": dict(row.headers)}} if row.headers else {}
    return {"text": openai_client.ask(row, row.messages(), **more).content}


if __name__ == "__main__":
    serve({name: behind(scenario) for name, scenario in {**openai_client.SCENARIOS, "chat": chat}.items()})
