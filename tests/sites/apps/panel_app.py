# mypy: disable-error-code="import-not-found"
"""A small Panel ChatInterface with Panel's basic authentication. SIGUSR1 ends every session."""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncIterator

import panel as pn
from answers import PASSWORD, PAUSE_S, USERNAME, begin, record

pn.extension(notifications=True)


def chat() -> pn.chat.ChatInterface:
    """Return the page of one session."""

    async def answer(prompt: str, _user: str, _chat: pn.chat.ChatInterface) -> AsyncIterator[str | pn.pane.Markdown]:
        try:
            token, words = begin(prompt, len(earlier))
        except RuntimeError as error:
            pn.state.notifications.error(f"No answer: {error}", duration=0)
            return
        earlier.append(prompt)
        text = ""
        try:
            for word in words:
                text += word
                yield text
                await asyncio.sleep(PAUSE_S)
            # Once more in whole: Panel tells where a part goes in code points, and its page counts UTF-16 units. Its
            # lines are laid out as those of the parts.
            yield pn.pane.Markdown(text, hard_line_break=True)
            record(done=token, answer=text)
        except (GeneratorExit, asyncio.CancelledError):
            record(stopped=token)
            raise

    earlier: list[str] = []
    return pn.chat.ChatInterface(callback=answer)


server = pn.serve(
    chat,
    address="127.0.0.1",
    port=int(os.environ["APP_PORT"]),
    basic_auth={USERNAME: PASSWORD},
    cookie_secret=os.environ["APP_SECRET"],
    show=False,
    start=False,
)


def end_sessions(*_: object) -> None:
    server._tornado.settings["cookie_secret"] = secrets.token_urlsafe(32)
    record(sessions="ended")


signal.signal(signal.SIGUSR1, end_sessions)
server.run_until_shutdown()
