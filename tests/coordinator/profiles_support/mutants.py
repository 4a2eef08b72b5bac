"""Copies of a module in each of which one check has been taken out."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import CodeType


@dataclass(frozen=True)
class Mutant:
    """The code with one check taken out: the module, the place, and its syntax tree."""

    module: str
    line: int
    what: str
    tree: ast.Module

    def code(self) -> CodeType:
        return compile(ast.fix_missing_locations(self.tree), self.module, "exec")

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line}: {self.what}"


def syntax_tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text("utf-8"))


def mutants(source: Path, error: str) -> Iterator[Mutant]:
    """One for each check in a module: where it raises `error`, and each row of its tables of lookalikes."""
    for index, node in enumerate(ast.walk(syntax_tree(source))):
        for what, change in _changes(source.stem, node, f"raise {error}"):
            mutated = syntax_tree(source)
            change(list(ast.walk(mutated))[index])
            yield Mutant(source.stem, getattr(node, "lineno", 0), what, mutated)


def _changes(module: str, node: Any, raises: str) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """The ways to take out the check that stands at a node."""
    if isinstance(node, ast.If) and raises in ast.unparse(node.body[-1]):
        yield "never raises", lambda guard: guard.body.__setitem__(-1, ast.Pass())
        for operand in range(len(getattr(node.test, "values", ()))):
            neutral = ast.Constant(isinstance(cast("ast.BoolOp", node.test).op, ast.And))
            yield f"without operand {operand}", partial(_replace_operand, operand, neutral)
    if isinstance(node, ast.ExceptHandler) and raises in ast.unparse(node.body[-1]):
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
