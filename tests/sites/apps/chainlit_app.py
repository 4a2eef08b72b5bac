# mypy: disable-error-code="import-not-found,untyped-decorator"
"""A small Chainlit app with password login. SIGUSR1 ends every session: what was signed before no longer holds."""

import asyncio
import os
import secrets
import signal

import chainlit as cl
from answers import PASSWORD, PAUSE_S, USERNAME, begin, record
from chainlit.auth import create_jwt, decode_jwt
from chainlit.server import app
from rotation import ROTATES, RotatingCookie


def end_sessions(*_: object) -> None:
    os.environ["CHAINLIT_AUTH_SECRET"] = secrets.token_urlsafe(32)
    record(sessions="ended")


signal.signal(signal.SIGUSR1, end_sessions)


def renew(token: str) -> str:
    """Sign a token anew, unlike all others."""
    user = cl.User(identifier=decode_jwt(token).identifier, metadata={"turn": secrets.token_hex(8)})
    return str(create_jwt(user))


if ROTATES:
    app.add_middleware(RotatingCookie, cookie="access_token", renew=renew)


@cl.password_auth_callback
def authenticate(username: str, password: str) -> cl.User | None:
    return cl.User(identifier=username) if (username, password) == (USERNAME, PASSWORD) else None


@cl.on_message
async def answer(message: cl.Message) -> None:
    history = cl.user_session.get("history", [])
    token, words = begin(message.content, len(history))
    history.append(message.content)
    cl.user_session.set("history", history)
    try:
        texts = [await tell(part) for part in in_messages(words, several="[[messages]]" in message.content)]
        record(done=token, answer="\n\n".join(filter(None, texts)))
    except asyncio.CancelledError:
        record(stopped=token)
        raise


def in_messages(words: list[str], *, several: bool) -> list[list[str]]:
    """Cut an answer into messages: one, or some of which one has no words."""
    return [words[:9], [], words[9:]] if several else [words]


async def tell(words: list[str]) -> str:
    """Send one message word by word, and beside it a step of which nothing belongs to the answer."""
    reply = cl.Message(content="")
    await reply.send()
    async with cl.Step(name="look it up", type="tool") as step:
        for word in words:
            await reply.stream_token(word)
            await step.stream_token("not the answer")
            await asyncio.sleep(PAUSE_S)
    await reply.update()
    return str(reply.content)
