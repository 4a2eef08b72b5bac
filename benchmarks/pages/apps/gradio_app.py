# mypy: disable-error-code="import-not-found"
"""A small Gradio ChatInterface with a login that records when it sends its tokens."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import gradio as gr
from starlette.middleware import Middleware
from timestamps import PASSWORD, PAUSE_S, USERNAME, TimestampMiddleware, record_end, tokens


async def answer(message: str, _: list[object]) -> AsyncIterator[str]:
    """Yield the answer so far after each token, as Gradio expects."""
    text = ""
    for token in tokens(message):
        text += token
        yield text
        await asyncio.sleep(PAUSE_S)
    record_end()


if __name__ == "__main__":
    gr.ChatInterface(answer).launch(
        server_name="127.0.0.1",
        server_port=int(os.environ["APP_PORT"]),
        auth=[(USERNAME, PASSWORD)],
        quiet=True,
        app_kwargs={"middleware": [Middleware(TimestampMiddleware)]},
    )
