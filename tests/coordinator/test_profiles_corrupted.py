"""Every way a profile can be bad is given its own reason, and no check is there in vain."""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from coordinator.profiles import discover_profiles
from tests.coordinator.profiles_support.corrupted import ALL, SOUND, Corrupted
from tests.coordinator.profiles_support.outcome import (
    CHECKED,
    Mutant,
    loaded,
    opening_fails,
    reason_given,
    syntax_tree,
)
from tests.coordinator.profiles_support.states import login

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = 1_800_000_000.0
IN_A_FOLDER = [case for case in ALL if "/" not in case.file_name and case.file_name[0] != "."]


@pytest.mark.parametrize("case", IN_A_FOLDER, ids=lambda case: case.cause)
def test_bad_profile_is_named_with_its_reason_and_the_rest_start(case: Corrupted, tmp_path: Path) -> None:
    folder = tmp_path / "active"
    folder.mkdir()
    (folder / "good.json").write_bytes(login("zoe"))
    case.put(folder)
    with opening_fails(case):
        found = discover_profiles(folder, now=NOW)
    assert [rejected.reason for rejected in found.rejected] == [case.reason]
    assert [profile.name for profile in found.accepted] == (["ann", "good"] if case.beside else ["good"])


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.cause)
def test_odd_profile_that_is_in_order_is_accepted(case: Corrupted, tmp_path: Path) -> None:
    case.put(tmp_path)
    found = discover_profiles(tmp_path, now=NOW)
    assert found.rejected == ()
    assert case.file_name.removesuffix(".json") in [profile.name for profile in found.accepted]


def test_causes_are_distinct() -> None:
    assert len({case.cause for case in ALL}) == len(ALL)
    assert len({case.reason for case in ALL}) >= 60


def test_every_check_that_is_taken_out_makes_a_case_fail(tmp_path: Path) -> None:
    cases = {case: tmp_path / str(index) / "active" for index, case in enumerate((*ALL, *SOUND))}
    for case, folder in cases.items():
        if case.place or case.fault:
            folder.mkdir(parents=True)
            case.put(folder)
    in_vain = [str(mutant) for mutant in _mutants() if not _noticed(mutant, cases)]
    assert not in_vain, "\n".join(in_vain)


def _noticed(mutant: Mutant, cases: dict[Corrupted, Path]) -> bool:
    with loaded(mutant) as discover:
        return any(
            reason_given(discover, case, cases[case], NOW) != case.reason
            for case in sorted(cases, key=lambda case: len(case.content))
        )


def _mutants() -> Iterator[Mutant]:
    for module in CHECKED:
        tree = syntax_tree(module)
        for index, node in enumerate(ast.walk(tree)):
            for what, change in _changes(module, node):
                mutated = syntax_tree(module)
                change(list(ast.walk(mutated))[index])
                yield Mutant(module, getattr(node, "lineno", 0), what, mutated)


def _changes(module: str, node: Any) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """The ways to take out the check that stands at a node."""
    if isinstance(node, ast.If) and "raise BadProfile" in ast.unparse(node.body[-1]):
        yield "never raises", lambda guard: guard.body.__setitem__(-1, ast.Pass())
        for operand in range(len(getattr(node.test, "values", ()))):
            neutral = ast.Constant(isinstance(cast("ast.BoolOp", node.test).op, ast.And))
            yield f"without operand {operand}", partial(_replace_operand, operand, neutral)
    if isinstance(node, ast.ExceptHandler) and "raise BadProfile" in ast.unparse(node.body[-1]):
        yield "never raises", lambda handler: handler.body.__setitem__(-1, ast.Pass())
    if (
        module == "lookalikes"
        and isinstance(node, ast.Return)
        and isinstance(node.value, ast.Constant)
        and node.value.value
    ):
        yield "not recognised", lambda found: setattr(found, "value", ast.Constant(None))
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in {"_BINARY", "_TEXT"}:
        for row in range(len(cast("ast.Tuple", node.value).elts)):
            yield f"without row {row}", partial(_remove_row, row)


def _replace_operand(operand: int, neutral: ast.Constant, guard: Any) -> None:
    guard.test.values[operand] = neutral


def _remove_row(row: int, table: Any) -> None:
    del table.value.elts[row]
