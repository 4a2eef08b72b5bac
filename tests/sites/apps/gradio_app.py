# mypy: disable-error-code="import-not-found"
"""A small Gradio ChatInterface with a login. SIGUSR1 ends every session."""

import asyncio
import inspect
import os
import secrets
import signal
from collections.abc import AsyncIterator

import gradio as gr
from answers import PASSWORD, PAUSE_S, USERNAME, begin, record
from rotation import ROTATES, RotatingCookie


async def answer(message: str, history: list[object]) -> AsyncIterator[str]:
    token, words = begin(message, len(history))
    text = ""
    try:
        for word in words:
            text += word
            yield text
            await asyncio.sleep(PAUSE_S)
        if not words:
            yield ""
        record(done=token, answer=inspect.cleandoc(text))  # what Gradio does to a text before its page gets it
    except (GeneratorExit, asyncio.CancelledError):
        record(stopped=token)
        raise


def serve() -> None:
    host, port = os.environ["APP_HOST"], int(os.environ["APP_PORT"])
    app, _, _ = (blocks := gr.ChatInterface(answer)).launch(
        server_name=host, server_port=port, auth=[(USERNAME, PASSWORD)], prevent_thread_lock=True, quiet=True
    )

    def end_sessions(*_: object) -> None:
        app.tokens.clear()
        record(sessions="ended")

    signal.signal(signal.SIGUSR1, end_sessions)

    def renew(token: str) -> str | None:
        if user := app.tokens.get(token):
            app.tokens[following := secrets.token_urlsafe(16)] = user
            return following
        return None

    if ROTATES:
        app.middleware_stack = RotatingCookie(app.middleware_stack, cookie="access-token-unsecure-", renew=renew)
    blocks.block_thread()


if __name__ == "__main__":
    serve()
