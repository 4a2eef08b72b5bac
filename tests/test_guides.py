"""What guides tell to type works in a fresh clone, and where a message names a document, that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = ("api_utils", "browser", "contract", "coordinator", "openapi")
SOURCES = [ROOT / "launch_camoufox.py", *(path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py")))]
IN_CONTAINER = re.compile(r"^(docker|podman|kubectl) |^CMD ")


def commands(guide: Path) -> list[str]:
    """Return the lines of a guide's shell blocks, those that go on joined."""
    blocks = re.findall(r"^```(?:sh|bash|shell)\n(.*?)^```", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_some_commands_are_found() -> None:
    assert sum("launch_camoufox.py --login" in line for guide in GUIDES for line in commands(guide)) >= 2


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.name))
def test_programs_are_started_with_the_python_that_make_setup_installs(guide: Path) -> None:
    """A clone has no other Python with the packages."""
    on_the_host = [line for line in commands(guide) if not IN_CONTAINER.match(line)]
    assert [line for line in on_the_host if re.search(r"(?<!\.venv/bin/)\bpython3? (-m |\w+\.py)", line)] == []
    quoted = re.findall(r"`([^`\n]*launch_camoufox\.py --login --[^`\n]*)`", guide.read_text())
    assert [span for span in quoted if ".venv/bin/python" not in span] == []


@pytest.mark.parametrize("name", ["README.md", "docs/sites.md", "docs/deployment-prod.md"])
def test_a_guide_sets_up_before_it_starts_a_program(name: str) -> None:
    text = (ROOT / name).read_text()
    assert 0 <= text.find("make setup") < text.find(".venv/bin/python"), name


def named_documents() -> list[tuple[str, str]]:
    """Return each document that a string of the program names, with the heading that stands after it in quotes."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += re.findall(r'\b((?:docs/)?[\w-]+\.md)\b(?:, "([^"]+)")?', node.value)
    return sorted(set(found))


def test_messages_name_documents_and_headings_that_are_there() -> None:
    named = named_documents()
    assert ("docs/sites.md", "Logging in") in named
    for document, heading in named:
        places = [path for path in (ROOT / document, ROOT / "docs" / document) if path.is_file()]
        assert places or document in ELSEWHERE, f"{document} is named, and is not there"
        if heading:
            headings = re.findall(r"^#+ (.+)$", places[0].read_text(), flags=re.MULTILINE)
            assert heading in headings, f"{document} has no heading {heading!r}"


ELSEWHERE = {"spec.md", "proxy.md", "docs/proxy.md", "standard-webhooks.md"}
"""Documents of others, which docstrings cite."""
