"""Directives in prompts, and the tables that document them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import faults, shape
from demo.shape import Drop, Fail, SendText, Shape, Wait, read_directives, read_next, steps

README = Path(shape.__file__).parent / "README.md"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("plain", Shape()),
        ("[[tokens=3 delay_ms=0]] and [[echo]]", Shape(tokens=3, delay_ms=0, echo=True)),
        ("[[tokens=3]] [[tokens=4]]", Shape(tokens=4)),
        ("if [[ -f file ]]; then", Shape()),
        ("[[tokens=3 unknown=1]]", Shape()),
        ("[[tokens=-3]] [[tokens=x]] [[stall=never]]", Shape()),
        ("[[tokens=99999999999]]", Shape(tokens=100_000)),
        ("[[empty=1]]", Shape()),
        ("[[error=quota]]", Shape(error="quota")),
        ("What did I say before?", Shape(memory=True)),
    ],
)
def test_directives(prompt: str, expected: Shape) -> None:
    assert read_directives(prompt) == expected


def test_directives_for_later_prompts_are_not_for_this_one() -> None:
    prompt = "[[tokens=3]] [[next say=6f6b]] [[next error=quota tokens=1]] [[next nonsense]]"
    assert read_directives(prompt) == Shape(tokens=3)
    assert read_next(prompt) == [Shape(say="ok"), Shape(error="quota", tokens=1), Shape()]


def test_reasoning_comes_before_the_answer() -> None:
    played = list(steps(Shape(think="So, it", delay_ms=0), ["a"]))
    assert played == [
        Wait(0),
        SendText("So, ", "thought"),
        Wait(0),
        SendText("it", "thought"),
        Wait(0),
        SendText("a"),
    ]


@given(st.lists(st.sampled_from(["[[", "]]", "tokens", "=", "7", " ", "echo", "error", "quota", "\n", "٣"])))
def test_no_text_breaks_the_reading_of_directives(parts: list[str]) -> None:
    found = read_directives("".join(parts))
    assert found.tokens in (24, 7, 77, 777, 7777, 77777, 100_000) or str(found.tokens).strip("7") == ""


def test_steps_put_the_fault_in_the_middle() -> None:
    tokens = ["a", "b", "c", "d"]
    played = list(steps(Shape(delay_ms=1, break_off=True), tokens))
    assert played == [
        Wait(0),
        SendText("a"),
        Wait(0.001),
        SendText("b"),
        Drop(),
        Wait(0.001),
        SendText("c"),
        Wait(0.001),
        SendText("d"),
    ]
    assert list(steps(Shape(error="quota"), tokens)) == [Fail("quota")]


def test_every_directive_and_fault_is_documented() -> None:
    documented = " ".join([*shape.DIRECTIVE_HELP, *shape.DIRECTIVE_HELP.values()])
    text = README.read_text(encoding="utf-8")
    for field in dataclasses.fields(Shape):
        assert field.name in documented
        assert f"`{field.name}" in text
    assert set(faults.FAULT_HELP) == {"expire_session", *faults.KINDS}
    for kind in faults.FAULT_HELP:
        assert f"`{kind}`" in text
