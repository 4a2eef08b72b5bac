"""Cells that claim their logins in a real etcd, as processes over fake children."""

from __future__ import annotations

import contextlib
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from coordinator.claims.etcd import EtcdClaims
from tests.coordinator.claims import worlds
from tests.coordinator.program import Running, coordinator, write_profile
from tests.support import age
from tests.support.etcd import Etcd, Tls, etcd_server
from tests.support.json_lines import json_lines
from tests.support.waiting import HANG_LIMIT_S, eventually_async

# What each cell does is tested in tests/coordinator/claims, and more of it by `make test-scale`.
pytestmark = pytest.mark.slow

LOGINS = [f"login-{number}" for number in range(6)]
TTL_S = 2


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    folder = tmp_path / "etcd"
    folder.mkdir()
    with etcd_server(folder, tls=Tls.make(folder)) as running:
        yield running


@contextlib.asynccontextmanager
async def claiming(
    tmp_path: Path, etcd: Etcd, name: str, logins: Sequence[str] = LOGINS, **given: str
) -> AsyncIterator[Running]:
    """One cell, with TLS and a client's certificate, over the profiles of all cells."""
    profiles, key = tmp_path / "profiles", tmp_path / "session-key"
    if not profiles.exists():
        for login in logins:
            write_profile(profiles, login)
        age.new_key(key)
    folder = tmp_path / name
    folder.mkdir()
    settings = {
        **etcd.settings(),
        "LOCAL_PROFILE_DIR": str(profiles),
        "CELL": name,
        "CLAIM_TTL_S": str(TTL_S),
        "SESSION_DIR": str(folder / "sessions"),
        "SESSION_KEY_FILE": str(key),
    }
    async with coordinator(folder, **{**settings, **given}) as running:
        yield running


async def make_known(etcd: Etcd) -> None:
    assert etcd.tls
    store = EtcdClaims(
        etcd.urls,
        timeout_s=HANG_LIMIT_S,
        ca_file=etcd.tls.authority.file,
        cert_file=etcd.tls.cert_file,
        key_file=etcd.tls.key_file,
    )
    await worlds.make_known(store)
    await store.close()


async def serving(*cells: Running) -> Counter[str]:
    """How many cells are READY with each login."""
    found: Counter[str] = Counter()
    for cell in cells:
        for child in (await cell.ready())[1]["children"]:
            found[child["name"]] += child["state"] == "READY"
    return found


async def until_told(cell: Running, reason: str) -> None:
    """Wait until the cell says by this word why it claims nothing."""

    async def told() -> bool:
        return bool((await cell.ready())[1].get("claims", {}).get("reason") == reason)

    await eventually_async(told)


def all_once(found: Counter[str]) -> bool:
    assert max(found.values(), default=0) <= 1, found
    return sum(found.values()) == len(LOGINS)


async def test_each_login_is_served_by_one_cell_and_by_another_when_that_is_killed(tmp_path: Path, etcd: Etcd) -> None:
    async with claiming(tmp_path, etcd, "west") as west, claiming(tmp_path, etcd, "east") as east:

        async def shared() -> bool:
            return all_once(await serving(west, east)) and sum((await serving(west)).values()) == 3

        await eventually_async(shared)
        _, body = await west.ready()
        assert body["cell"] == "west"
        assert body["claims"] == {
            "held": 3,
            "cells": ["east", "west"],
            "lost": 0,
            "store_reached": True,
            "reason": None,
        }
        assert (await west.metrics()).sum("tabfleet_claims_held") == 3
        theirs = {child["name"] for child in body["children"] if child["state"] != "READY"}
        shown = [(child["reason"], child["held_by"]) for child in body["children"] if child["name"] in theirs]
        assert shown == [("claimed_elsewhere", "east")] * 3

        east.process.send_signal(signal.SIGKILL)

        async def taken_over() -> bool:
            return all_once(await serving(west))

        await eventually_async(taken_over)


async def test_a_cell_that_ends_hands_its_logins_over(tmp_path: Path, etcd: Etcd) -> None:
    # Their leases would last ten minutes: what a cell has, it gives back.
    long = {"CLAIM_TTL_S": "600"}
    await make_known(etcd)  # else they would wait for as long before they claim
    async with claiming(tmp_path, etcd, "west", **long) as west, claiming(tmp_path, etcd, "east", **long) as east:

        async def shared() -> bool:
            return all_once(await serving(west, east)) and sum((await serving(east)).values()) == 3

        await eventually_async(shared)
        assert await west.end() == 0

        async def taken_over() -> bool:
            return all_once(await serving(east))

        await eventually_async(taken_over)
        assert await east.end() == 0


async def test_a_cell_that_does_not_reach_the_store_ends_its_browsers_and_comes_back(
    tmp_path: Path, etcd: Etcd
) -> None:
    async with claiming(tmp_path, etcd, "west") as west:

        async def all_here() -> bool:
            return all_once(await serving(west))

        await eventually_async(all_here)
        with etcd.members[0].stopped():

            async def none() -> bool:
                status, body = await west.ready()
                states = {child["state"] for child in body["children"]}
                return status == 503 and states == {"STANDBY"} and not body["claims"]["store_reached"]

            await eventually_async(none)
            assert (await west.http.get("/live")).status_code == 200
        await eventually_async(all_here)
        body = (await west.ready())[1]
        assert body["claims"]["lost"] == len(LOGINS)
        text = json.dumps(body) + west.log.read_text()
        assert "PRIVATE KEY" not in text
        assert {len(json_lines(west.evidence / f"{login}.starts")) for login in LOGINS} == {2}


async def test_a_cell_whose_session_folder_cannot_be_used_leaves_all_logins_to_the_others(
    tmp_path: Path, etcd: Etcd
) -> None:
    no_folder = tmp_path / "no-folder"
    no_folder.write_text("", encoding="utf-8")
    async with claiming(tmp_path, etcd, "west") as west:

        async def all_here() -> bool:
            return all_once(await serving(west))

        await eventually_async(all_here)
        async with claiming(tmp_path, etcd, "east", SESSION_DIR=str(no_folder)) as east:
            await until_told(east, "sessions_unusable")
            status, body = await east.ready()
            assert (status, body["claims"]["held"]) == (503, 0)
            assert body["warnings"] == ["This cell claims nothing: SESSION_DIR cannot be used: File exists."]
            assert str(tmp_path) not in json.dumps(body)
            assert await all_here()
            assert {len(json_lines(west.evidence / f"{login}.starts")) for login in LOGINS} == {1}
            no_folder.unlink()

            async def shared() -> bool:
                return all_once(await serving(west, east)) and sum((await serving(east)).values()) == 3

            await eventually_async(shared)


@pytest.mark.parametrize(
    ("name", "own", "others"),
    [("CLAIM_TTL_S", "3", "2"), ("SESSION_KEY_FILE", "a file of the keys ", "a file of the keys ")],
)
async def test_a_cell_that_differs_takes_no_login_and_says_in_what(
    tmp_path: Path, etcd: Etcd, name: str, own: str, others: str
) -> None:
    other_key = tmp_path / "other-key"
    age.new_key(other_key)
    given = {name: str(other_key) if name == "SESSION_KEY_FILE" else own}
    async with claiming(tmp_path, etcd, "west") as west:

        async def all_here() -> bool:
            return all_once(await serving(west))

        await eventually_async(all_here)
        async with claiming(tmp_path, etcd, "east", **given) as east:
            await until_told(east, "settings_differ")
            status, body = await east.ready()
            assert (status, body["claims"]["held"]) == (503, 0)
            (line,) = body["warnings"]
            assert line.startswith(f"This cell claims nothing: its {name} is {own}")
            assert f", that of west is {others}" in line
            assert "stop all that have the old one" in line
            (event,) = east.events("claim_store_trouble")
            assert (event["reason"], event["message"]) == ("settings_differ", line)
            assert not list(east.evidence.glob("*.starts"))
            assert "AGE-SECRET" not in json.dumps(body) + east.log.read_text()
            assert await all_here()

            # Once the last of the others has ended, it may decide.
            assert await west.end() == 0

            async def taken_over() -> bool:
                return all_once(await serving(east))

            await eventually_async(taken_over)
            assert (await east.ready())[1]["claims"]["reason"] is None
