"""The shape of an answer: parse the `[[...]]` directives of a prompt, and turn a shape into steps and tokens."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Literal

from demo.ledger import Entry

QUOTA = "You have reached your message limit. Try again in 30 minutes."
FAILURES = {
    "quota": QUOTA,
    "server": "Something went wrong on our side. Please try again.",
    "middle": "The answer was interrupted by an error. Please try again.",
    "expired": "Your session has expired. Log in again.",
    "refused": "This request goes against the rules of this site.",
}
MEMORY_QUESTION = "what did i say before?"

DIRECTIVE_HELP = {
    "tokens=N": "number of tokens after the digest and the submission's token (24)",
    "delay_ms=N": "pause between tokens (5)",
    "first_ms=N": "pause before the first token (0)",
    "stall=first|middle": "send nothing more until stopped or disconnected, or for stall_ms=N",
    "busy_ms=N": "block the page's script for N ms in the middle",
    "crash": "crash the page in the middle (Chromium)",
    "error=CODE": "quota, refused, server (HTTP 500), middle (an error event), expired (ends the session)",
    "break_off": "drop the connection in the middle",
    "empty": "an answer without any text",
    "say=HEX": "answer with this text (UTF-8 in hexadecimal) and nothing else, four characters a token",
    "think=HEX": "show this text as the reasoning before the answer, four characters a token",
    "next ...": "these directives are for the conversation's next prompt; each [[next ...]] for one more",
    "echo": "answer with the prompt, as the model demo-echo does",
    "code": "Markdown: a code block, a list, a table",
    "unicode": "words in several scripts, emoji, combining marks",
    "split": "send the SSE body in pieces of 7 bytes",
    "memory": "list the digests of this conversation's earlier prompts; so does: What did I say before?",
}
_DIRECTIVE = re.compile(r"\[\[([a-z0-9_= ]{1,200000})\]\]")
_NEXT = "next"
_NUMBERS = {
    "tokens": 100_000,
    "delay_ms": 600_000,
    "first_ms": 600_000,
    "stall_ms": 3_600_000,
    "busy_ms": 600_000,
}
_FLAGS = frozenset({"empty", "crash", "code", "echo", "unicode", "split", "memory", "break_off"})
_CHOICES = {"stall": ("first", "middle"), "error": tuple(FAILURES)}
_WORDS = [
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fable",
    "grove",
    "harbor",
    "island",
    "jasper",
    "kernel",
    "lantern",
    "meadow",
    "nectar",
    "orchard",
    "pebble",
    "quartz",
    "river",
    "summit",
    "timber",
    "umbra",
    "valley",
    "willow",
    "xenon",
    "yonder",
    "zephyr",
]
_UNICODE = [
    "naïve",
    "Grüße",
    "東京",
    "Привет",
    "שלום",
    "👩‍🚀",
    "🇫🇷",
    "e\u0301toile",
    "\U0001d518nicode",
    "\u00a0—\u202f",
]
_CODE = '''Here is a function, a list and a table.

```python
def greet(name: str) -> str:
    """Return a greeting & nothing <else>."""
    return f"Hello, {name}!"
```

- first item
- second item with `inline code`
  - nested item

| name  | value |
|-------|------:|
| alpha |     1 |
| beta  |    22 |

That is **all**.
'''


@dataclass(frozen=True)
class Shape:
    """How an answer is sent. Fields are named as the directives; demo/README.md explains them."""

    tokens: int = 24
    delay_ms: int = 5
    first_ms: int = 0
    stall: str | None = None
    stall_ms: int | None = None
    busy_ms: int = 0
    crash: bool = False
    error: str | None = None
    empty: bool = False
    code: bool = False
    echo: bool = False
    unicode: bool = False
    split: bool = False
    memory: bool = False
    break_off: bool = False
    say: str | None = None
    think: str | None = None


def read_directives(prompt: str) -> Shape:
    """Return the shape that a prompt asks for. Double brackets with anything else inside are plain text."""
    shape = Shape(memory=MEMORY_QUESTION in prompt.lower())
    for words in _directives(prompt):
        if words[:1] != [_NEXT]:
            shape = _shaped(shape, words)
    return shape


def read_next(prompt: str) -> list[Shape]:
    """Return the shapes that a prompt asks for its conversation's later prompts, in their order."""
    return [_shaped(Shape(), words[1:]) for words in _directives(prompt) if words[:1] == [_NEXT]]


def _directives(prompt: str) -> Iterator[list[str]]:
    return (match[1].split() for match in _DIRECTIVE.finditer(prompt))


def _shaped(shape: Shape, words: Sequence[str]) -> Shape:
    settings = [_read_word(word) for word in words]
    return shape if None in settings else replace(shape, **dict(setting for setting in settings if setting))


def _read_word(word: str) -> tuple[str, Any] | None:
    name, _, value = word.partition("=")
    if word in _FLAGS:
        return name, True
    if name in _NUMBERS and value.isdecimal():
        return name, min(int(value), _NUMBERS[name])
    if value in _CHOICES.get(name, ()):
        return name, value
    if name in ("say", "think"):
        try:
            return name, bytes.fromhex(value).decode()
        except ValueError:
            return None
    return None


@dataclass(frozen=True)
class Wait:
    """Pause the answer; infinity means until it is stopped."""

    seconds: float


@dataclass(frozen=True)
class SendText:
    """Send one token of the answer, or a `thought` of the reasoning before it."""

    text: str
    kind: Literal["token", "thought"] = "token"


@dataclass(frozen=True)
class Busy:
    """Block the page's own script for this long."""

    milliseconds: int


@dataclass(frozen=True)
class Crash:
    """Make the page's own script crash its renderer process."""


@dataclass(frozen=True)
class Fail:
    """End the answer with an error event; `code` is a key of FAILURES."""

    code: str


@dataclass(frozen=True)
class Drop:
    """Close the connection without an end event."""


Step = Wait | SendText | Busy | Crash | Fail | Drop


def steps(shape: Shape, tokens: Sequence[str]) -> Iterator[Step]:
    """Yield the answer's steps in order. Faults in the middle come before token `len(tokens) // 2`."""
    if shape.error and shape.error != "middle":
        yield Fail(shape.error)
        return
    yield Wait(shape.first_ms / 1000)
    if shape.stall == "first":
        yield _stall(shape)
    for thought in _in_tokens(shape.think or ""):
        yield SendText(thought, "thought")
        yield Wait(shape.delay_ms / 1000)
    for index, token in enumerate(tokens):
        if index == len(tokens) // 2:
            yield from _faults(shape)
        if index:
            yield Wait(shape.delay_ms / 1000)
        yield SendText(token)


def _faults(shape: Shape) -> Iterator[Step]:
    if shape.busy_ms:
        yield Busy(shape.busy_ms)
    if shape.crash:
        yield Crash()
    if shape.stall == "middle":
        yield _stall(shape)
    if shape.error:
        yield Fail(shape.error)
    if shape.break_off:
        yield Drop()


def _stall(shape: Shape) -> Wait:
    return Wait(inf if shape.stall_ms is None else shape.stall_ms / 1000)


def compose(entry: Entry, shape: Shape, earlier: Sequence[str]) -> list[str]:
    """Return the answer's tokens: the prompt's digest, the submission's token, the images' digests, then the body.

    `earlier` are the digests of the conversation's earlier prompts.
    """
    if shape.empty:
        return []
    if shape.say is not None:
        return _in_tokens(shape.say)
    head = [f"sha256:{entry.prompt_sha256} ", f"token:{entry.token}\n\n"]
    head += [f"image-sha256:{image.sha256}\n\n" for image in entry.images]
    return head + _body(entry, shape, earlier)


def _in_tokens(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]


def _body(entry: Entry, shape: Shape, earlier: Sequence[str]) -> list[str]:
    if shape.memory:
        return [f"Earlier prompts: {len(earlier)}\n", *(f"{n}. {sha}\n" for n, sha in enumerate(earlier, 1))]
    if shape.code:
        return re.findall(r"\S+\s*|\s+", _CODE)
    if shape.echo or entry.model == "demo-echo":
        return [entry.prompt[start : start + 16] for start in range(0, len(entry.prompt), 16)]
    # Seeded: the same prompt gets the same words, so that a test can compare two answers.
    chooser = random.Random(entry.prompt_sha256)
    words = chooser.choices(_UNICODE if shape.unicode else _WORDS, k=shape.tokens)
    return [word + (".\n" if number % 12 == 0 else " ") for number, word in enumerate(words, 1)]
