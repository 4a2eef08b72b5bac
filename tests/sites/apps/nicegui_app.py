# mypy: disable-error-code="import-not-found,untyped-decorator"
"""A small NiceGUI chat with a login page and its own storage of users. SIGUSR1 ends every session."""

import asyncio
import os
import signal

from answers import PASSWORD, PAUSE_S, USERNAME, begin, record
from nicegui import app, background_tasks, ui
from starlette.responses import Response


@ui.page("/login")
def login() -> None:
    def try_login() -> None:
        if (username.value, password.value) == (USERNAME, PASSWORD):
            app.storage.user["username"] = username.value
            ui.navigate.to("/")
        else:
            ui.notify("Wrong username or password")

    with ui.card().classes("absolute-center"):
        username = ui.input("Username").on("keydown.enter", try_login)
        password = ui.input("Password", password=True).on("keydown.enter", try_login)
        ui.button("Log in", on_click=try_login)


@ui.page("/")
def chat() -> Response | None:
    if not app.storage.user.get("username"):
        return Response(status_code=307, headers={"location": "/login"})
    earlier: list[str] = []
    answering: list[asyncio.Task[None]] = []

    async def answer(token: str, words: list[str], reply: ui.label) -> None:
        try:
            for word in words:
                reply.text += word
                await asyncio.sleep(PAUSE_S)
            record(done=token, answer="".join(words))
        except asyncio.CancelledError:
            record(stopped=token)
            raise
        finally:
            reply.props("data-done")
            stop.set_visibility(False)

    def ask() -> None:
        question, prompt.value = prompt.value, ""
        with messages, ui.chat_message(name="You", sent=True):
            ui.label(question).classes("whitespace-pre-wrap")
        try:
            token, words = begin(question, len(earlier))
        except RuntimeError as error:
            ui.notify(f"No answer: {error}", type="negative")
            return
        earlier.append(question)
        with messages, ui.chat_message(name="Bot"):
            reply = ui.label().classes("whitespace-pre-wrap").props("data-testid=answer")
        stop.set_visibility(True)
        answering[:] = [background_tasks.create(answer(token, words, reply))]

    def cancel() -> None:
        answering[0].cancel()

    with ui.row().classes("w-full justify-between"):
        ui.label(app.storage.user["username"]).props("data-testid=account")
    messages = ui.column().classes("w-full")
    with ui.footer(), ui.row().classes("w-full"):
        prompt = ui.textarea(placeholder="Message").classes("flex-grow").props("data-testid=prompt")
        ui.button("Send", on_click=ask).props("data-testid=send")
        stop = ui.button("Stop", on_click=cancel).props("data-testid=stop")
        stop.set_visibility(False)
    return None


def end_sessions(*_: object) -> None:
    for user in app.storage._users.values():
        user.clear()
    record(sessions="ended")


app.on_startup(lambda: signal.signal(signal.SIGUSR1, end_sessions))
ui.run(
    host="127.0.0.1",
    port=int(os.environ["APP_PORT"]),
    storage_secret=os.environ["APP_SECRET"],
    reload=False,
    show=False,
)
