# mypy: disable-error-code="import-not-found,untyped-decorator"
"""A small Shiny app with a Chat, without a login: whoever opens the page is in."""

import asyncio
import os
from collections.abc import AsyncIterator

from answers import PAUSE_S, begin, record
from shiny import App, Inputs, Outputs, Session, reactive, ui

page = ui.page_fillable(ui.chat_ui("chat", enable_cancel=True))


def server(inputs: Inputs, outputs: Outputs, session: Session) -> None:
    chat = ui.Chat("chat")
    earlier: list[str] = []

    @chat.on_user_submit
    async def ask(prompt: str) -> None:
        token, words = begin(prompt, len(earlier))
        earlier.append(prompt)
        await chat.append_message_stream(answer(token, words))

    @reactive.effect
    @reactive.event(inputs.chat_cancel)
    def cancel() -> None:
        chat.latest_message_stream.cancel()

    async def answer(token: str, words: list[str]) -> AsyncIterator[str]:
        try:
            for word in words:
                yield word
                await asyncio.sleep(PAUSE_S)
            record(done=token, answer="".join(words))
        except (GeneratorExit, asyncio.CancelledError):
            record(stopped=token)
            raise


if __name__ == "__main__":
    App(page, server).run(host="127.0.0.1", port=int(os.environ["APP_PORT"]))
