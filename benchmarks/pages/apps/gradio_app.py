# mypy: disable-error-code="import-not-found"
"""A small Gradio ChatInterface with a login that notes when its tokens leave it."""

import asyncio
import os
from collections.abc import AsyncIterator

import gradio as gr
from stamping import PASSWORD, PAUSE_S, USERNAME, Stamped, note_over, tokens
from starlette.middleware import Middleware


async def answer(message: str, _: list[object]) -> AsyncIterator[str]:
    text = ""
    for token in tokens(message):
        text += token
        yield text
        await asyncio.sleep(PAUSE_S)
    note_over()


if __name__ == "__main__":
    gr.ChatInterface(answer).launch(
        server_name="127.0.0.1",
        server_port=int(os.environ["APP_PORT"]),
        auth=[(USERNAME, PASSWORD)],
        quiet=True,
        app_kwargs={"middleware": [Middleware(Stamped)]},
    )
