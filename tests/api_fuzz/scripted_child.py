"""The real child's HTTP program, from its socket to the prompt; only the page behind it is played.

The page reasons aloud, and does as it is told: it calls the first tool of the OpenAPI document's example where that is
declared, gives a JSON object where JSON is asked for, and else some text.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from api_utils.auth_utils import initialize_keys
from api_utils.request_queue import RequestQueue
from api_utils.server import serve
from api_utils.settings import ChildSettings
from api_utils.state import ChildState
from browser.capture.findings import Reasoning
from browser.page.images import Image, ImageLimits
from browser.settings import read_variables
from contract.listener import listen
from contract.logs import configure_logging
from tests.api.scripted_page import ScriptedConversation, ScriptedPage
from tests.support import png

CALL = '```tool_call\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n```'


class ObedientConversation(ScriptedConversation):
    def ask(self, prompt: str, images: Sequence[Image] = ()) -> AsyncGenerator[str | Reasoning]:
        pieces: tuple[str | Reasoning, ...] = ("{", "}") if prompt.startswith("Format:") else ("Hel", "lo")
        if '"name": "get_weather"' in prompt:
            pieces = ("I look it up.\n", CALL)
        self._answers = iter([(Reasoning("So, "), Reasoning("well."), *pieces)])
        return super().ask(prompt, images)


@dataclass
class ObedientPage(ScriptedPage):
    """A page that does as its prompt says."""

    picture: bytes = field(default_factory=lambda: png.make(4, 3))
    limits: ImageLimits | None = field(default_factory=lambda: ImageLimits(10, 5 * 1024 * 1024))

    def converse(self, request_id: str, model: str) -> ObedientConversation:
        """Begin a conversation."""
        return ObedientConversation(self, request_id, model)


async def run(port: int) -> int:
    settings = read_variables(ChildSettings)
    configure_logging(settings.log_format, settings.log_level)
    page = ObedientPage()
    state = ChildState(page, RequestQueue(page), settings, initialize_keys(), "demo", "chromium")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return await serve(state, listen("127.0.0.1", port), asyncio.create_task(page.start(), name="page-start"), stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server-port", type=int, required=True)
    sys.exit(asyncio.run(run(parser.parse_known_args()[0].server_port)))
