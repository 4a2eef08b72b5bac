"""The guide has a cure for each message of the check: they are read from its source, and looked up in docs/sites.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs/sites.md").read_text()
SECTION = GUIDE.partition("\n## What the check says\n")[2].partition("\n## ")[0]
# Whole modules of the check whose sentences are messages, and those of the page whose errors it shows.
OF_THE_CHECK = ("steps_open", "steps_prompt", "steps_answer", "diagnosis", "traffic", "page_facts")
OF_THE_PAGE = ("tab", "completion", "page_input", "login_refresh")
ERRORS = {
    "PageBroken",
    "PromptRejected",
    "SiteUnreachable",
    "LoginExpired",
    "FirstTokenTimeout",
    "StreamIdleTimeout",
} | {"RefreshFailed"}
# Of a sentence these are the end, or they stand in a line that says something else.
NO_MESSAGE = {
    "complete: … characters…, …: …",
    "…: cookies: …, origins with localStorage: …",
    "; if it lays Markdown out: capture.dom.read = 'markdown'",
    "that is where it was read",
    "what the page asked for after the send",
    "websockets of the page",
    "finds …, … of them visible",
    "a page that does not answer",
    "() => { try { return Boolean(top.document); } catch { return false; } }",
    "; login.steps were not needed, and not tried",
    "a login that ends",
    "a site that goes away",
    "the site has no login that could be lost",
    "by capture.network.same … events do not count",
}
SENTENCE_WORDS = 4


def template(node: ast.AST) -> str | None:
    """A string of the source, with … for what is filled in."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def is_no_message(node: ast.AST) -> bool:
    """Docstrings; what a step says that is fine; our own mistakes."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if not isinstance(node, ast.Call):
        return False
    return name_of(node) == "RuntimeError" or (name_of(node) == "StepResult" and len(node.args) == 1)


def sentences(node: ast.AST) -> Iterator[str]:
    if is_no_message(node):
        return
    text = template(node)
    if text is not None and len(text.replace("…", "").split()) >= SENTENCE_WORDS and text not in NO_MESSAGE:
        yield text
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from sentences(child)


def messages() -> Iterator[str]:
    for name in OF_THE_CHECK:
        yield from sentences(ast.parse((ROOT / f"browser/check/{name}.py").read_text()))
    for name in OF_THE_PAGE:
        for node in ast.walk(ast.parse((ROOT / f"browser/page/{name}.py").read_text())):
            if isinstance(node, ast.Call) and name_of(node) in ERRORS and (text := template(node.args[0])):
                yield text
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "message":
                yield template(node.value) or ""


def test_each_message_of_the_check_has_its_cure() -> None:
    found = set(messages())
    assert len(found) > 50, "the source is read"
    told = set(re.findall(r"`([^`]+)`", SECTION))
    missing = sorted(text for text in found if text.replace("`", "'") not in told)
    assert not missing, "docs/sites.md, What the check says, needs a row for each of these"


def test_each_row_has_a_message_that_is_said() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.+) \|$", SECTION, re.MULTILINE)
    assert len(rows) > 30
    said = {text.replace("`", "'") for text in messages()}
    for first, cure in rows:
        assert set(re.findall(r"`([^`]+)`", first)) <= said, first
        assert cure.strip()
