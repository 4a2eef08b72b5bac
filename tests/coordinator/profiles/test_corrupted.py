"""Every way a profile can be bad is given its own reason, and no check is there in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator.profiles import discover_profiles
from tests.coordinator.profiles.support.corrupted import ALL, SOUND, Corrupted
from tests.coordinator.profiles.support.mutants import Mutant, mutants
from tests.coordinator.profiles.support.outcome import CHECKED, loaded, opening_fails, reason_given, source_of
from tests.coordinator.profiles.support.states import login

if TYPE_CHECKING:
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


@pytest.mark.long  # a test of the cases above
def test_every_check_that_is_taken_out_makes_a_case_fail(tmp_path: Path) -> None:
    cases = {case: tmp_path / str(index) / "active" for index, case in enumerate((*ALL, *SOUND))}
    for case, folder in cases.items():
        if case.place or case.fault:
            folder.mkdir(parents=True)
            case.put(folder)
    all_mutants = [mutant for module in CHECKED for mutant in mutants(module, source_of(module), "BadProfile")]
    assert len(all_mutants) > 60
    in_vain = [str(mutant) for mutant in all_mutants if not _noticed(mutant, cases)]
    assert not in_vain, "\n".join(in_vain)


def _noticed(mutant: Mutant, cases: dict[Corrupted, Path]) -> bool:
    with loaded(mutant) as discover:
        return any(
            reason_given(discover, case, cases[case], NOW) != case.reason
            for case in sorted(cases, key=lambda case: len(case.content))
        )
