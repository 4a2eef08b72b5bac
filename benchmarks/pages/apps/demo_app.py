"""The demo site, with numbered tokens of which it notes when they leave it."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.pages.apps import stamping
from demo import site
from demo.chat import Event, encode
from demo.ledger import Entry
from demo.shape import Shape


def compose(entry: Entry, shape: Shape, _: Sequence[str]) -> list[str]:
    stamping.note_prompt(entry.prompt, entry.started_mono)
    return list(map(stamping.token, range(shape.tokens)))


def stamped(event: Event) -> str:
    """Make the event's text, which is written at once. Notes are written before what is noted is sent: 30 us."""
    text = encode(event)
    stamping.note_sent(text.encode(), time.monotonic())
    if event["type"] == "done":
        stamping.note_over()
    return text


if __name__ == "__main__":
    chat: Any = importlib.import_module("demo.chat")
    transports: Any = importlib.import_module("demo.transports")
    chat.compose, transports.encode = compose, stamped
    sys.exit(site.main(["--port", os.environ["APP_PORT"]]))
