"""Running a corrupted case against the code as it is, or against a copy with a check taken out."""

from __future__ import annotations

import functools
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tests.coordinator.profiles_support.mutants import syntax_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.coordinator.profiles_support.corrupted import Corrupted
    from tests.coordinator.profiles_support.mutants import Mutant

ROOT = Path(__file__).parents[3]
STATE = "contract.storage_state"
DISCOVER = "coordinator.profiles.discover"
CHECKED = (*(f"{STATE}.{name}" for name in ("lookalikes", "document", "schema", "summary", "profile_file")), DISCOVER)
"""The modules with checks, in the order of their imports."""


def source_of(module: str) -> Path:
    """The file of a module of ours."""
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


@functools.cache
def _code_as_it_is(module: str) -> CodeType:
    return compile(syntax_tree(source_of(module)), module, "exec")


@contextmanager
def loaded(mutant: Mutant) -> Iterator[ModuleType]:
    """The `discover` module of a fresh copy of the checking modules, one of them mutated."""
    with patch.dict(sys.modules):
        for name in CHECKED:
            module = ModuleType(name)
            sys.modules[name] = module
            exec(mutant.code() if mutant.module == name else _code_as_it_is(name), module.__dict__)
        yield sys.modules[DISCOVER]


def reason_given(discover: Any, case: Corrupted, folder: Path, now: float) -> str:
    """The reason the case is left out for, "" if it is accepted, or the name of a stray exception."""
    try:
        with opening_fails(case):
            items = [discover.examine("ann.json", folder / "ann.json", lambda: case.beside)] if case.beside else []
            items += [
                discover.examine(
                    case.file_name, folder / case.file_name, functools.partial(_read, discover, case, folder)
                )
            ]
            rejected = discover.select_profiles(items, now).rejected
    except Exception as error:  # noqa: BLE001 - with a check taken out anything may happen
        return type(error).__name__
    return "; ".join(found.reason for found in rejected)


@contextmanager
def opening_fails(case: Corrupted) -> Iterator[None]:
    """Make opening the case's file fail as it says."""
    real_open = os.open

    def failing(path: Any, *rest: Any, **more: Any) -> int:
        if case.fault and os.fspath(path).endswith(case.file_name):
            raise case.fault
        return real_open(path, *rest, **more)

    with patch.object(os, "open", failing):
        yield


def _read(discover: Any, case: Corrupted, folder: Path) -> bytes:
    if case.place is None and case.fault is None:
        return case.content
    read: bytes = discover.read_profile_file(folder / case.file_name, within=folder.resolve())
    return read
