"""Frames over the browser's console, where policy or browser forbid the hook a socket to the stream port.

The hook calls the console's `debug` as it was before any of the page's scripts, with the hook's name and a frame in
base64. A line counts only with that name, and like any frame only with the nonce of the present answer, which the page
does not know.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from weakref import WeakSet

from playwright.async_api import ConsoleMessage, Page

from browser.capture.frames import BadFrame
from browser.capture.stream_receiver import StreamReceiver


class ConsoleSink:
    """Takes frames from pages' consoles and gives them to the receiver of the stream port's."""

    def __init__(self, name: str, receiver: StreamReceiver) -> None:
        self._name = name
        self._receiver = receiver
        self._pages: WeakSet[Page] = WeakSet()

    def listen(self, page: Page) -> None:
        """Take this page's frames from here on; a page that goes to another document counts as a closed connection."""
        if page in self._pages:
            return
        self._pages.add(page)
        page.on("console", self._take)
        page.on("domcontentloaded", self._receiver.closed)

    def _take(self, message: ConsoleMessage) -> None:
        name, _, line = message.text.partition(" ")
        if message.type == "debug" and name == self._name and message.page:
            with suppress(binascii.Error, BadFrame):  # anything in the page may write lines
                self._receiver.take(message.page, base64.b64decode(line, validate=True))
