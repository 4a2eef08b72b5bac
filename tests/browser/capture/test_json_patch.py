"""Changes to a JSON document, as sites send them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from browser.capture.json_patch import Document, PatchMismatch


def changed(value: Any, *changes: list[Any]) -> Any:
    document = Document(value)
    document.apply(changes)
    return document.value


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ({"a": ["x", "y"]}, ["append", ["a", 1], "z"], {"a": ["x", "yz"]}),
        ({"a": "x"}, ["replace", ["a"], "y"], {"a": "y"}),
        ({"a": 1}, ["add", ["b"], 2], {"a": 1, "b": 2}),
        ([1, 3], ["add", [1], 2], [1, 2, 3]),
        ([1, 2], ["delete", [0], None], [2]),
        ({"a": 1, "b": 2}, ["delete", ["b"], None], {"a": 1}),
        ("x", ["append", [], "y"], "xy"),
        ("x", ["replace", [], {"new": 1}], {"new": 1}),
        ({"a/b": {"~": ["x"]}}, ["append", "/a~1b/~0/0", "y"], {"a/b": {"~": ["xy"]}}),
        ([1], ["add", "/-", 2], [1, 2]),
        ({"a": [1]}, ["append", "/a", 2], {"a": [1, 2]}),
        ({"a": 1}, ["remove", "/a"], {}),
    ],
)
def test_a_change(before: Any, change: list[Any], after: Any) -> None:
    assert changed(before, change) == after


def test_changes_apply_in_order() -> None:
    assert changed(["a"], ["add", [1], "b"], ["append", [1], "c"], ["delete", [0], None]) == ["bc"]


@pytest.mark.parametrize(
    "change",
    [
        ["append", ["missing"], "x"],
        ["append", ["a", 5], "x"],
        ["append", ["a", 0], "x"],
        ["append", ["a", 0, "b"], "x"],
        ["rotate", ["a", 0], "x"],
        ["delete", ["a", "one"], None],
        [],
        "append",
        7,
    ],
)
def test_a_change_that_does_not_fit(change: Any) -> None:
    with pytest.raises(PatchMismatch):
        changed({"a": [1]}, change)


TEXTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def gradio_changes(old: Any, new: Any, path: list[Any]) -> list[list[Any]]:
    """How Gradio tells a change, written down from what its pages receive."""
    if type(old) is not type(new) or not isinstance(old, (str, list, dict)):
        return [] if old == new and type(old) is type(new) else [["replace", path, new]]
    if isinstance(old, str):
        if new.startswith(old):
            return [["append", path, new[len(old) :]]]
        return [["replace", path, new]]
    if isinstance(old, list):
        shared = min(len(old), len(new))
        within = [change for at in range(shared) for change in gradio_changes(old[at], new[at], [*path, at])]
        gone = [["delete", [*path, shared], None] for _ in old[shared:]]
        return within + gone + [["add", [*path, at], new[at]] for at in range(shared, len(new))]
    gone = [["delete", [*path, key], None] for key in old if key not in new]
    within = [change for key in old if key in new for change in gradio_changes(old[key], new[key], [*path, key])]
    return gone + within + [["add", [*path, key], new[key]] for key in new if key not in old]


@given(TEXTS, TEXTS)
def test_what_changed_between_any_two_documents_makes_one_of_the_other(old: Any, new: Any) -> None:
    assert changed(old, *gradio_changes(old, new, [])) == new
