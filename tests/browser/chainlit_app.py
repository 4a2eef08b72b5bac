# mypy: disable-error-code="import-not-found,untyped-decorator"
"""A small Chainlit app: password login, answers that stream, each with its prompt's digest and a token.

It runs in an environment of its own (scripts/app-env chainlit). What it received goes to the file in
CHAINLIT_LEDGER, one JSON object a line.
"""

import asyncio
import hashlib
import json
import os
import secrets
from pathlib import Path

import chainlit as cl


@cl.password_auth_callback
def authenticate(username: str, password: str) -> cl.User | None:
    return cl.User(identifier=username) if (username, password) == ("ada", "lovelace") else None


def record(**fields: object) -> None:
    with Path(os.environ["CHAINLIT_LEDGER"]).open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(fields) + "\n")


@cl.on_message
async def answer(message: cl.Message) -> None:
    history = cl.user_session.get("history", [])
    token = secrets.token_hex(16)
    record(prompt=message.content, token=token, earlier=len(history))
    history.append(message.content)
    cl.user_session.set("history", history)
    if "[[error]]" in message.content:
        raise RuntimeError("made to fail")
    digest = hashlib.sha256(message.content.encode()).hexdigest()
    words = [f"sha256={digest} ", f"token={token} ", "\n\n", *(f"word{number} " for number in range(40))]
    if "[[code]]" in message.content:
        words += ["\n\n```python\n", "def f(x):\n", "    return x\n", "```\n\n", "- one\n", "- **two**\n", "end"]
    if "[[endless]]" in message.content:
        words += [f"more{number} " for number in range(100_000)]
    reply = cl.Message(content="")
    try:
        for word in words:
            await reply.stream_token(word)
            await asyncio.sleep(0.005)
        await reply.update()
        record(done=token, answer=reply.content)
    except asyncio.CancelledError:
        record(stopped=token)
        raise
