"""The demo site with numbered tokens, which records when it sends them."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.pages.apps import timestamps
from demo import site
from demo.chat import Event, encode
from demo.ledger import Entry
from demo.shape import Shape


def compose(entry: Entry, shape: Shape, _: Sequence[str]) -> list[str]:
    """Return numbered tokens in place of the demo site's words."""
    timestamps.record_prompt(entry.prompt, entry.started_mono)
    return list(map(timestamps.token, range(shape.tokens)))


def encode_and_record(event: Event) -> str:
    """Encode an event and record its tokens, 30 us before the caller sends it."""
    text = encode(event)
    timestamps.record_sent(text.encode(), time.monotonic())
    if event["type"] == "done":
        timestamps.record_end()
    return text


if __name__ == "__main__":
    chat: Any = importlib.import_module("demo.chat")
    transports: Any = importlib.import_module("demo.transports")
    chat.compose, transports.encode = compose, encode_and_record
    sys.exit(site.main(["--port", os.environ["APP_PORT"]]))
