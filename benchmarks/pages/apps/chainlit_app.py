# mypy: disable-error-code="import-not-found,untyped-decorator"
"""A small Chainlit app with password login that notes when its tokens leave it."""

import asyncio

import chainlit as cl
from chainlit.server import app
from stamping import PASSWORD, PAUSE_S, USERNAME, Stamped, note_over, tokens

app.add_middleware(Stamped)


@cl.password_auth_callback
def authenticate(username: str, password: str) -> cl.User | None:
    return cl.User(identifier=username) if (username, password) == (USERNAME, PASSWORD) else None


@cl.on_message
async def answer(message: cl.Message) -> None:
    reply = cl.Message(content="")
    for token in tokens(message.content):
        await reply.stream_token(token)
        await asyncio.sleep(PAUSE_S)
    await reply.update()
    note_over()
