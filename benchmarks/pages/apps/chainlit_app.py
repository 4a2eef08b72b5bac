# mypy: disable-error-code="import-not-found,untyped-decorator"
"""A small Chainlit app with password login that records when it sends its tokens."""

from __future__ import annotations

import asyncio

import chainlit as cl
from chainlit.server import app
from timestamps import PASSWORD, PAUSE_S, USERNAME, TimestampMiddleware, record_end, tokens

app.add_middleware(TimestampMiddleware)


@cl.password_auth_callback
def authenticate(username: str, password: str) -> cl.User | None:
    """Return the user if the credentials are right."""
    return cl.User(identifier=username) if (username, password) == (USERNAME, PASSWORD) else None


@cl.on_message
async def answer(message: cl.Message) -> None:
    """Stream the tokens."""
    reply = cl.Message(content="")
    for token in tokens(message.content):
        await reply.stream_token(token)
        await asyncio.sleep(PAUSE_S)
    await reply.update()
    record_end()
