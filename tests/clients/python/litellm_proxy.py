"""LiteLLM's proxy between OpenAI's SDK and the row's server: https://docs.litellm.ai/docs/simple_proxy"""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from tests.clients.python import openai_client
from tests.clients.python.protocol import Row, Scenario, serve

LITELLM = str(Path(sys.executable).with_name("litellm"))
START_S = 240.0
MASTER_KEY = "sk-proxy"
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


MODELS = ("demo-small", "demo-large", "demo-echo")


class NotStarted(Exception):
    """The proxy did not begin to serve."""


_running: dict[tuple[str, str], str] = {}


def proxy(row: Row) -> str:
    """Start a proxy for the row's address and key, unless it runs; return its base URL. It ends with this process."""
    if (row.base_url, row.api_key) not in _running:
        _running[row.base_url, row.api_key] = start(row)
    return _running[row.base_url, row.api_key]


def start(row: Row) -> str:
    """Start a proxy with its default settings. Raises NotStarted after START_S seconds."""
    server = {"api_base": row.base_url, "api_key": row.api_key}
    models = [{"model_name": name, "litellm_params": {"model": f"openai/{name}", **server}} for name in MODELS]
    config = Path(row.folder) / "config.yaml"
    settings = {"general_settings": {"master_key": MASTER_KEY}, "model_list": models}
    config.write_text(json.dumps(settings))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*DIES_WITH_PARENT, LITELLM, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=2)
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return f"http://127.0.0.1:{port}/v1"
    raise NotStarted


def behind(scenario: Scenario) -> Scenario:
    """Run a scenario of OpenAI's SDK with the proxy's address and key."""
    return lambda row: scenario(dataclasses.replace(row, base_url=proxy(row), api_key=MASTER_KEY))


if __name__ == "__main__":
    serve({name: behind(scenario) for name, scenario in openai_client.SCENARIOS.items()})
