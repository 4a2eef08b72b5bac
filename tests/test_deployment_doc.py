"""Every message and code that the operator's guide quotes must occur in the program, word for word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "deployment-prod.md").read_text(encoding="utf-8")
PACKAGES = ("api_utils", "browser", "contract", "coordinator")
SOURCES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
ENTRY_POINT = ROOT / "docker" / "entrypoint.prod.sh"
PLACEHOLDER = "*"
# Placeholders: values in the guide's examples, fields in Python's and the shell's templates.
EXAMPLES = r"\.\.\.|s3://\S+|/app\S+|\b(HOST|NAME)(?=\b|_)|\b\d+\b"
FIELDS = r"\{\w+\}|\$\{?\w+\}?|\$\(id -u\)"


def section(title: str) -> str:
    """Return the text below a heading, up to the next one."""
    return re.split(r"^#+ ", GUIDE.partition(f" {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> Iterator[str]:
    """Yield the first cell of each row of a table, without its header."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    yield from (row.split("|")[1] for row in rows[2:])


def quoted(text: str) -> list[str]:
    """Return the code spans that are no route."""
    return [span for span in re.findall(r"`([^`]+)`", text) if not re.fullmatch(r"/[a-z]+", span)]


MESSAGES = [span for cell in first_cells(section("Troubleshooting")) for span in quoted(cell)]
CODES = sorted({span for span in quoted(section("When something fails")) if re.fullmatch(r"[a-z]+(_[a-z]+)*", span)})


@cache
def templates() -> frozenset[str]:
    """Return every string of the program, with placeholders for its fields, and the text of the entry point."""
    found = {ENTRY_POINT.read_text(encoding="utf-8")}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else PLACEHOLDER for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return frozenset(re.sub(FIELDS, PLACEHOLDER, text) for text in found)


@cache
def long_parts() -> list[list[str]]:
    """Return what is between the fields of each template that is long enough to be found in a piece of it."""
    split = [text.rstrip(".").split(PLACEHOLDER) for text in templates()]
    return [words for words in split if sum(map(len, words)) > 20]


def has_in_turn(piece: str, words: list[str]) -> bool:
    """Return whether a piece has all these in this order, with something between them. Regular expressions are slow."""
    end = -1
    for word in words:
        begin = piece.find(word, end + 1)
        if begin < 0:
            return False
        end = begin + len(word)
    return True


def occurs(piece: str) -> bool:
    """Return whether a template contains this piece of a message, or makes up a long enough part of it."""
    wanted = re.sub(EXAMPLES, PLACEHOLDER, piece)
    return any(wanted in text for text in templates()) or any(has_in_turn(piece, words) for words in long_parts())


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_of_the_troubleshooting_table_occurs_in_the_code(message: str) -> None:
    whole = occurs(message)
    assert whole or all(map(occurs, message.split("; "))), f"no source has {message!r}; copy it from the code"


@pytest.mark.parametrize("code", CODES)
def test_each_code_of_the_table_of_failures_occurs_in_the_code(code: str) -> None:
    name = code.removesuffix("_total")  # added by prometheus_client
    assert any(name in text.split() for text in templates()), f"no source has {code!r}"


def test_the_tables_are_found_and_an_unknown_message_is_detected() -> None:
    assert len(MESSAGES) > 15
    assert len(CODES) > 10
    assert not occurs("the bucket is in another country")
    assert not occurs("children need about ... MiB of disk")
