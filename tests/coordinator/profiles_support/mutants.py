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
        return f"{self.module}:{self.line}: {self.what}"


def syntax_tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text("utf-8"))


def mutants(module: str, source: Path, error: str) -> Iterator[Mutant]:
    """One for each check in a module: where it raises `error`, each rule beside a field, each row of its tables."""
    for index, node in enumerate(ast.walk(syntax_tree(source))):
        for what, change in _changes(source.stem, node, f"raise {error}"):
            mutated = syntax_tree(source)
            change(list(ast.walk(mutated))[index])
            yield Mutant(module, getattr(node, "lineno", 0), what, mutated)


def _changes(module: str, node: Any, raises: str) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """The ways to take out the check that stands at a node."""
    if module == "schema":
        yield from _changes_of_a_rule(node)
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


def _changes_of_a_rule(node: Any) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """The ways to take out a rule of the schema, a term of one, or a row of the tables of its words."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Matches":
        yield "matches anything", lambda call: call.args.__setitem__(0, ast.Constant(".*"))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "Rule":
        yield "always holds", lambda call: call.args.__setitem__(0, ast.parse("lambda _: True", mode="eval").body)
    if isinstance(node, ast.Lambda | ast.FunctionDef) and getattr(node, "name", "is_web_address") == "is_web_address":
        terms = [inner for inner in ast.walk(node) if isinstance(inner, ast.BoolOp)]
        for number, operand in ((n, operand) for n, term in enumerate(terms) for operand in range(len(term.values))):
            yield f"without operand {operand} of term {number}", partial(_replace_term, number, operand)
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in {"_KINDS", "_WANTED"}:
        for row in range(len(cast("ast.Dict", node.value).keys)):
            yield f"without row {row}", partial(_remove_entry, row)


def _replace_operand(operand: int, neutral: ast.Constant, guard: Any) -> None:
    guard.test.values[operand] = neutral


def _replace_term(number: int, operand: int, rule: ast.AST) -> None:
    term = [inner for inner in ast.walk(rule) if isinstance(inner, ast.BoolOp)][number]
    term.values[operand] = ast.Constant(isinstance(term.op, ast.And))


def _remove_entry(row: int, table: Any) -> None:
    del table.value.keys[row], table.value.values[row]


def _remove_row(row: int, table: Any) -> None:
    del table.value.elts[row]
