"""The operator's guide quotes messages and codes: each must be one that the program can say, word for word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "docs" / "deployment-prod.md").read_text(encoding="utf-8")
SAYING = [
    path
    for folder in ("api_utils", "browser", "contract", "coordinator")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
ENTRY_POINT = ROOT / "docker" / "entrypoint.prod.sh"
HOLE = "*"
# What stands for something else: in the guide's examples, in Python's templates, in the shell's strings.
EXAMPLES = r"\.\.\.|s3://\S+|/app\S+|\b(HOST|NAME)(?=\b|_)|\b\d+\b"
FIELDS = r"\{\w+\}|\$\{?\w+\}?|\$\(id -u\)"


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return re.split(r"^#+ ", GUIDE.partition(f" {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def first_cells(text: str) -> Iterator[str]:
    """The first cell of each row of a table, without its heading and rule."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    yield from (row.split("|")[1] for row in rows[2:])


def quoted(text: str) -> list[str]:
    """The code spans, those left out that are a route."""
    return [span for span in re.findall(r"`([^`]+)`", text) if not re.fullmatch(r"/[a-z]+", span)]


MESSAGES = [span for cell in first_cells(section("Troubleshooting")) for span in quoted(cell)]
CODES = sorted({span for span in quoted(section("When something fails")) if re.fullmatch(r"[a-z]+(_[a-z]+)*", span)})


@cache
def templates() -> frozenset[str]:
    """Every string of the program, with its fields as holes; the entry point is one."""
    found = {ENTRY_POINT.read_text(encoding="utf-8")}
    for path in SAYING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return frozenset(re.sub(FIELDS, HOLE, text) for text in found)


def says(piece: str) -> bool:
    """Whether a template holds this piece of a message, or is itself a part of it that says enough."""
    wanted = re.sub(EXAMPLES, HOLE, piece)
    return any(wanted in text or _covers(text, piece) for text in templates())


def _covers(template: str, piece: str) -> bool:
    words = [re.escape(word) for word in template.rstrip(".").split(HOLE)]
    return sum(map(len, words)) > 20 and re.search(".+".join(words), piece) is not None


@pytest.mark.parametrize("message", MESSAGES)
def test_each_message_of_the_troubleshooting_table_is_one_that_is_said(message: str) -> None:
    whole = says(message)
    assert whole or all(map(says, message.split("; "))), f"nothing says {message!r}; copy it from the code"


@pytest.mark.parametrize("code", CODES)
def test_each_code_of_the_table_of_failures_is_one_that_is_given(code: str) -> None:
    name = code.removesuffix("_total")  # which the metrics' library adds
    assert any(name in text.split() for text in templates()), f"nothing gives {code!r}"


def test_the_tables_are_found_and_a_strange_message_is_told() -> None:
    assert len(MESSAGES) > 15
    assert len(CODES) > 10
    assert not says("the bucket is in another country")
    assert not says("children need about ... MiB of disk")
