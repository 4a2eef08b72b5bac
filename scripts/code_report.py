#!/usr/bin/env python3
"""Print figures about the readability of the code. A report, not a gate.

    python scripts/code_report.py [FOLDER ...]

Default: the product's packages. Give another folder to compare, such as an installed httpcore.

- function lines: from `def` to the last statement, docstring included; median, 90th percentile, longest.
- private helpers used once: functions named `_x` whose name occurs once in their module besides the definition, as a
  share of all functions: those that are called there, and those that are passed on and cannot be inlined, which are
  callbacks, and coroutines that somebody else awaits. Dunder methods, and methods that a library calls by name, do
  not count.
- comments: lines with a comment in words, as a share of all non-blank lines; a bare `noqa` or `type: ignore` is none.
- public functions and classes with a docstring.
- roots of exceptions: classes that derive from built-in exceptions alone.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("api_utils", "browser", "contract", "coordinator", "launch_camoufox.py")
SMALL = 40
LARGE = 350
_DIRECTIVE = re.compile(r"#\s*(?:noqa|type:|pragma|mypy:|ruff:)[^#]*?(?:\s-\s(?P<why>.+)|#(?P<more>.+))?$")
Function = ast.FunctionDef | ast.AsyncFunctionDef
BUILT_IN_ERRORS = {name for name in dir(builtins) if name.endswith(("Error", "Exception", "Warning"))}


@dataclass
class Figures:
    """The counts over all files."""

    files: int = 0
    lines: int = 0
    comments: int = 0
    lengths: list[int] = field(default_factory=list)
    helpers_called_once: list[str] = field(default_factory=list)
    helpers_passed_once: list[str] = field(default_factory=list)
    documented: Counter[bool] = field(default_factory=Counter)
    undocumented: list[str] = field(default_factory=list)
    roots: list[str] = field(default_factory=list)
    small: list[str] = field(default_factory=list)
    large: list[str] = field(default_factory=list)


def main(folders: list[str]) -> None:
    """Print the figures of all these folders together; with --list, the functions behind them."""
    figures = Figures()
    for folder in folders or [str(ROOT / part) for part in PRODUCT]:
        for path in sorted(Path(folder).rglob("*.py")) if Path(folder).is_dir() else [Path(folder)]:
            count(path, figures)
    functions = len(figures.lengths)
    share = 100 / functions
    shown = sum(figures.documented.values()) or 1
    print(f"files                          {figures.files}, non-blank lines {figures.lines}")
    ninetieth = quantiles(figures.lengths, n=10)[-1]
    print(f"functions                      {functions}, lines {median(figures.lengths):g} / {ninetieth:g} /", end=" ")
    print(f"{max(figures.lengths)} (median / p90 / max)")
    called, passed = figures.helpers_called_once, figures.helpers_passed_once
    print(f"private helpers called once    {len(called)} ({len(called) * share:.1f} % of functions),", end=" ")
    print(f"passed on once {len(passed)} ({len(passed) * share:.1f} %)")
    print(f"lines with a comment in words  {figures.comments} ({figures.comments * 100 / figures.lines:.1f} %)")
    print(f"public things documented       {figures.documented[True] * 100 / shown:.0f} %")
    print(f"roots of exceptions            {', '.join(figures.roots) or 'none'}")
    print(f"files under {SMALL} lines           {len(figures.small)}: {', '.join(figures.small)}")
    print(f"files above {LARGE} lines          {len(figures.large)}: {', '.join(figures.large)}")
    if "--list" in sys.argv:
        for title, listed in (
            ("private helpers called once", called),
            ("passed on once", passed),
            ("without a docstring", figures.undocumented),
        ):
            print(f"\n{title}:", *listed, sep="\n")


def count(path: Path, figures: Figures) -> None:
    """Add the counts of one file to the figures."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    lines = [line for line in text.splitlines() if line.strip()]
    figures.files += 1
    figures.lines += len(lines)
    figures.comments += sum(_has_words(token.string) for token in _comments(text))
    if 1 < len(text.splitlines()) < SMALL and path.name != "__init__.py":
        figures.small.append(name)
    if len(text.splitlines()) > LARGE:
        figures.large.append(name)
    names = Counter(map(_name, ast.walk(tree)))
    called = {_name(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    called -= _handed_over(tree)
    for function, public in _functions(tree):
        figures.lengths.append((function.end_lineno or 0) - function.lineno + 1)
        private = function.name.startswith("_") and not function.name.endswith("__")
        if private and names[function.name] == 1:
            helpers = figures.helpers_called_once if function.name in called else figures.helpers_passed_once
            helpers.append(f"{name}:{function.lineno} {function.name}")
        if public:
            _document(function, name, figures)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            if not node.name.startswith("_"):
                _document(node, name, figures)
            named = {base.id for base in node.bases if isinstance(base, ast.Name)}
            if named and named <= BUILT_IN_ERRORS:
                figures.roots.append(f"{node.name} ({name})")


def _document(node: Function | ast.ClassDef, file: str, figures: Figures) -> None:
    documented = ast.get_docstring(node) is not None
    figures.documented[documented] += 1
    if not documented:
        figures.undocumented.append(f"{file}:{node.lineno} {node.name}")


def _comments(text: str) -> Iterator[tokenize.TokenInfo]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return (token for token in tokens if token.type == tokenize.COMMENT)


def _handed_over(tree: ast.AST) -> set[str | None]:
    """Return the names of coroutines and async generators whose call somebody else awaits: a task, a timeout."""
    awaited = set[int]()
    for node in ast.walk(tree):
        match node:
            case ast.Await(value=value):
                awaited.add(id(value))
            case ast.AsyncFor(iter=value) | ast.comprehension(iter=value):
                awaited.add(id(value))
            case ast.AsyncWith(items=items):
                awaited.update(id(item.context_expr) for item in items)
    coroutines = {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in awaited)
    return {name for node in calls if (name := _name(node.func)) in coroutines}


def _has_words(comment: str) -> bool:
    directive = _DIRECTIVE.match(comment)
    return directive is None or bool(directive["why"] or directive["more"])


def _name(node: ast.AST) -> str | None:
    """Return the name that is used here: of a variable, an attribute, or an imported one."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _functions(tree: ast.AST, *, public: bool = True) -> Iterator[tuple[Function, bool]]:
    """Yield each function with whether it is public: no underscore on it or around it, and not inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield node, public and not node.name.startswith("_")
            yield from _functions(node, public=False)
        else:
            hidden = isinstance(node, ast.ClassDef) and node.name.startswith("_")
            yield from _functions(node, public=public and not hidden)


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if not argument.startswith("--")])
