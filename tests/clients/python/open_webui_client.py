"""Open WebUI's own page in Chromium, used as a person does: https://docs.openwebui.com/"""

from __future__ import annotations

import base64
import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Locator, Page, sync_playwright

from tests.clients.python.protocol import WEATHER_DESCRIPTION, Row, serve
from tests.clients.python.server import NotStarted, start_server

ANSWER_MS = 240_000
PAGE_MS = 120_000
SETTINGS = {
    "WEBUI_AUTH": "False",
    "WEBUI_SECRET_KEY": "a secret of the tests, and of nobody else",
    "USE_SLIM_DOCKER": "True",  # the edition without models of its own; the lock file has no torch
    "ENABLE_OLLAMA_API": "False",
    # Nothing is fetched or reported.
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "SCARF_NO_ANALYTICS": "true",
    "DO_NOT_TRACK": "true",
    "ANONYMIZED_TELEMETRY": "false",
}
TASKS = ("ENABLE_TITLE_GENERATION", "ENABLE_TAGS_GENERATION", "ENABLE_FOLLOW_UP_GENERATION")
"""What it asks the model by itself about each chat, unless it is told not to."""

WEATHER_TOOL = '''
import json

class Tools:
    def weather(self, city: str) -> str:
        """
        {description}
        :param city: The city.
        """
        with open({called!r}, "a") as file:
            print(json.dumps({{"city": city}}), file=file)
        return {result!r}
'''

# Collects each text that the page shows as its newest answer.
WATCH = """() => {
    window.shown = [];
    new MutationObserver(() => {
        const text = [...document.querySelectorAll(".chat-assistant .markdown-prose")].at(-1)?.innerText;
        if (text !== undefined && text !== window.shown.at(-1)) window.shown.push(text);
    }).observe(document.body, { childList: true, characterData: true, subtree: true });
}"""


class Failed(Exception):
    """The conversation shows an error: one line for each time that it does."""


class OpenWebui:
    """A running server, with a page in a browser: one of each for all rows, for it takes half a minute to start."""

    def __init__(self, row: Row) -> None:
        self.url = start_server(
            "open-webui",
            lambda port: ["serve", "--host", "127.0.0.1", "--port", str(port)],
            health="/health",
            folder=row.folder,
            environment={
                **SETTINGS,
                **dict.fromkeys(TASKS, "False"),
                "DATA_DIR": row.folder,
                "OPENAI_API_BASE_URLS": row.base_url,
                "OPENAI_API_KEYS": row.api_key,
            },
        )
        self.token = ""
        self.token = self.call("/api/v1/auths/signin", {"email": "", "password": ""})["token"]
        browser = (
            sync_playwright()
            .start()
            .chromium.launch(executable_path=os.environ["BROWSER_EXECUTABLE"], args=["--disable-quic", "--disable-gpu"])
        )
        self.page: Page = browser.new_page()
        self.page.set_default_timeout(PAGE_MS)
        self.open_first()

    def open_first(self) -> None:
        """Open its first page, and close what that says to be new in this release."""
        for _ in range(3):
            self.page.goto(self.url)
            try:
                self.page.get_by_role("button", name="Okay, Let's Go!").click(timeout=PAGE_MS / 3)
            except Error:  # on a busy machine, it once stayed at its first picture for good
                continue
            return
        raise NotStarted

    def call(self, path: str, body: Any = None) -> Any:
        """Call the API by which its own pages save settings."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=60) as response:
            return json.load(response)

    def connect(self, row: Row) -> None:
        """Save the row's server as the only connection."""
        connection: dict[str, Any] = {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": [row.base_url],
            "OPENAI_API_KEYS": [row.api_key],
            "OPENAI_API_CONFIGS": {},
        }
        self.call("/openai/config/update", connection)
        if not self.call("/api/models")["data"]:
            # The key is refused, so that the page has no model to choose. With one named it asks, and shows the error.
            connection["OPENAI_API_CONFIGS"] = {"0": {"model_ids": [row.model]}}
            self.call("/openai/config/update", connection)

    def set_tasks(self, *, on: bool) -> None:
        """Switch what it asks by itself on, as it is by default, or off."""
        config = self.call("/api/v1/tasks/config")
        self.call("/api/v1/tasks/config/update", {**config, **dict.fromkeys(TASKS, on)})

    def models(self) -> Locator:
        """Open the list of models and return its entries."""
        self.page.locator("#model-selector-model-button").click()
        entries = self.page.get_by_role("option")
        entries.first.wait_for()
        return entries

    def open(self, row: Row) -> None:
        """Open a new chat with the row's server and model."""
        self.connect(row)
        # Not after the row that has them on: they come after its answer.
        self.set_tasks(on=row.scenario == "tasks")
        self.page.goto(self.url)
        self.models().filter(has_text=row.model).click()

    def submit(self, text: str) -> None:
        """Enter a text and press Enter."""
        self.page.locator("#chat-input").click()
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Enter")

    def ask(self, text: str) -> str:
        """Submit a text and return the answer. Raises Failed if the page shows an error."""
        answers = self.page.locator("[id^=message-]:has(.chat-assistant)")
        number = answers.count()
        self.submit(text)
        answer = answers.nth(number)
        # It stands under an answer that has ended, well or not.
        answer.get_by_role("button", name="Regenerate").wait_for(timeout=ANSWER_MS)
        errors = self.page.locator("#response-content-container > div:has(> svg)").all_inner_texts()
        if errors:
            raise Failed("\n".join(error.strip() for error in errors))
        return answer.locator(".markdown-prose").last.inner_text().strip()


_running: list[OpenWebui] = []


def webui(row: Row) -> OpenWebui:
    """Return Open WebUI with a new chat. Starts it for the first row."""
    if not _running:
        try:
            _running.append(OpenWebui(row))
        except (Error, NotStarted) as error:
            sys.exit(f"Open WebUI did not start: {error!r}")  # else each row would start one more
    _running[0].open(row)
    return _running[0]


def models(row: Row) -> dict[str, Any]:
    names = webui(row).models().evaluate_all("entries => entries.map(entry => entry.dataset.value)")
    return {"models": names}


def chat(row: Row) -> dict[str, Any]:
    return {"text": webui(row).ask(row.prompt)}


def stream(row: Row) -> dict[str, Any]:
    chat = webui(row)
    chat.page.evaluate(WATCH)
    chat.ask(row.prompt)
    before, pieces = "", []
    for text in chat.page.evaluate("window.shown"):
        if not text.startswith(before):
            raise Failed(f"{before!r} became {text!r}")
        pieces.append(text.removeprefix(before))
        before = text
    return {"pieces": pieces}


def history(row: Row) -> dict[str, Any]:
    (_, first), _ = row.turns
    chat = webui(row)
    chat.ask(first)
    return {"text": chat.ask(row.prompt)}


def image(row: Row) -> dict[str, Any]:
    picture = Path(row.folder) / "picture.png"
    picture.write_bytes(base64.b64decode(row.image.partition(",")[2]))
    chat = webui(row)
    chat.page.locator("input[type=file][multiple]").set_input_files(picture)
    chat.page.locator("#message-input-container img").wait_for()
    return {"text": chat.ask(row.prompt)}


def tools(row: Row) -> dict[str, Any]:
    """Add a tool to the server, and switch it on in the chat."""
    called = Path(row.folder) / "called"
    chat = webui(row)
    code = WEATHER_TOOL.format(description=WEATHER_DESCRIPTION, called=str(called), result=row.tool_result)
    meta = {"description": WEATHER_DESCRIPTION}
    chat.call("/api/v1/tools/create", {"id": "weather", "name": "Weather", "content": code, "meta": meta})
    chat.page.reload()  # the page has read its list of tools already
    chat.page.get_by_role("button", name="Integrations").click()
    chat.page.get_by_role("menuitem", name="Tools").click()
    chat.page.get_by_role("menuitemcheckbox", name="Weather").click()
    chat.page.keyboard.press("Escape")
    text = chat.ask(row.prompt)
    return {"text": text, "called": [json.loads(line) for line in called.read_text().splitlines()]}


def note(row: Row) -> dict[str, Any]:
    """Ask with the tools that it sends by itself, and return the titles of the notes that there are then."""
    chat = webui(row)
    text = chat.ask(row.prompt)
    return {"text": text, "notes": [note["title"] for note in chat.call("/api/v1/notes/")]}


def stop(row: Row) -> dict[str, Any]:
    chat = webui(row)
    chat.page.get_by_role("button", name="Controls").click()
    chat.page.get_by_role("button", name="Stop Sequence").click()
    chat.page.get_by_placeholder("Enter stop sequence").fill(row.stop)
    return {"text": chat.ask(row.prompt)}


if __name__ == "__main__":
    serve(
        {
            "models": models,
            "chat": chat,
            "stream": stream,
            "history": history,
            "image": image,
            "tools": tools,
            "note": note,
            "stop": stop,
            "tasks": chat,
        }
    )
