"""Whether two texts are of the same answer, by how the page is read."""

from __future__ import annotations

import pytest

from browser.capture.compare import agree


@pytest.mark.parametrize(
    ("read", "shown", "how"),
    [
        ("a\nb ", " a\nb", "text"),
        ("a\r\nb", "a\nb", "text"),
        ("a  b\n\nc", "a b\nc", "rendered"),
        ("**a** and `b`\n\n```python\nc = 1\n```", "a and b\n\n```\nc = 1\n```", "markdown"),
        ("1. a\n1. b", "1. a\n2. b", "markdown"),
        ("- 東京 é", "* 東京 é", "markdown"),
    ],
)
def test_the_same_answer(read: str, shown: str, how: str) -> None:
    assert agree(read, shown, how)


@pytest.mark.parametrize(
    ("read", "shown", "how"),
    [
        ("a b", "a  b", "text"),
        ("a", "a b", "rendered"),
        ("**a** is 3", "**a** is 4", "markdown"),
        ("a", "", "markdown"),
        ("```\na = 1\n```", "```\na = 2\n```", "markdown"),
    ],
)
def test_another_answer(read: str, shown: str, how: str) -> None:
    assert not agree(read, shown, how)
