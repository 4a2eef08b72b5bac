"""A caller's schema cannot make a check as slow as it likes."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from api_utils.cpu_limit import CpuLimitExceeded, with_cpu_limit
from api_utils.json_schema import schema_problem, value_problem

TREE: dict[str, Any] = {f"a{depth}": {"allOf": [{"$ref": f"#/$defs/a{depth + 1}"}] * 2} for depth in range(40)}
SLOW: list[tuple[dict[str, Any], Any]] = [
    ({"pattern": "^(?:a|a)*$"}, "a" * 60 + "b"),
    ({"patternProperties": {"^(?:a|a)*$": {}}}, {"a" * 60 + "b": 1}),
    ({"patternProperties": {"^(?:a|a)*$": {}}, "additionalProperties": False}, {"a" * 60 + "b": 1}),
    ({"$ref": "#/$defs/a0", "$defs": {**TREE, "a40": {}}}, 1),
    ({"uniqueItems": True}, [{"a": number} for number in range(20_000)]),
]


@pytest.mark.parametrize(("schema", "value"), SLOW, ids=range(len(SLOW)))
def test_a_check_that_would_take_for_ever_is_given_up(schema: dict[str, Any], value: Any) -> None:
    assert schema_problem(schema) is None
    assert value_problem(schema, value) == "it takes too long to check"
    assert value_problem({"type": "integer"}, 1) is None, "what comes next is checked as always"


def test_nothing_of_the_limit_stays() -> None:
    assert with_cpu_limit(10, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        with_cpu_limit(10, lambda: 1 // 0)
    with pytest.raises(CpuLimitExceeded):
        with_cpu_limit(0.01, lambda: sum(1 for _ in iter(int, 1)))
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL
