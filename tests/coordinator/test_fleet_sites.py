"""Two sites in one coordinator, over fake children: what is found of one, and its changed file, concern it alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.coordinator.program import KEY, Running, coordinator, write_profile
from tests.support.json_lines import json_lines
from tests.support.waiting import eventually, eventually_async

FLEET = """\
[[login]]
pattern = "one-*"
site = "./one.toml"

[[login]]
pattern = "two-*"
site = "./two.toml"
"""
HANG_LIMIT_S = 60.0
NAMES = ("one-a", "one-b", "two-a")
BROKEN = 'name = "broken"\n'


def prepare(tmp_path: Path) -> None:
    """Two logins of one site and one of the other; a page is not what a site file that holds "broken" says."""
    (tmp_path / "evidence").mkdir()
    for name in NAMES:
        write_profile(tmp_path / "active", name)
        (tmp_path / f"evidence/{name}.json").write_text(json.dumps({"check_changed_by": "broken"}))
    for site in ("one", "two"):
        (tmp_path / f"{site}.toml").write_text(f'name = "{site}"\n')
    (tmp_path / "fleet.toml").write_text(FLEET)


def texts(tmp_path: Path, name: str, what: str) -> list[str]:
    """The site files that a child was started with (`sites`), or was asked to check (`checks`)."""
    return [note["text"] for note in json_lines(tmp_path / f"evidence/{name}.{what}")]


async def site_checks(running: Running) -> dict[str, dict[str, Any]]:
    return {site["site"]: site for site in (await running.ready())[1]["site_checks"]}


async def until(running: Running, holds: Callable[[dict[str, dict[str, Any]]], bool]) -> dict[str, dict[str, Any]]:
    """Wait until what `/ready` says of the sites is so, and return it."""

    async def look() -> dict[str, dict[str, Any]] | None:
        seen = await site_checks(running)
        return seen if holds(seen) else None

    return await eventually_async(look, timeout_s=HANG_LIMIT_S)


def all_passed(seen: dict[str, dict[str, Any]]) -> bool:
    return set(seen) == {"one", "two"} and all(site["ok"] for site in seen.values())


async def test_a_check_and_a_changed_file_concern_one_site_alone(tmp_path: Path) -> None:
    prepare(tmp_path)
    given = {"CHAT_SITE": "", "FLEET_FILE": str(tmp_path / "fleet.toml"), "SITE_CHECK_S": "0.2"}
    async with coordinator(tmp_path, program="tests.coordinator.run_with_short_waits", **given) as running:
        await running.until_ready(*NAMES)
        await until(running, all_passed)

        # A changed page is told for its site alone.
        await running.behave("two-a", check_changed_by="two")
        seen = await until(running, lambda seen: seen["two"]["ok"] is False)
        found = seen["two"]
        assert (found["file"], found["line"], found["selector"]) == ("two.toml", 3, "#gone")
        assert seen["one"]["ok"]
        _, shown = await running.ready()
        (warning,) = shown["warnings"]
        assert warning.startswith("The page of two is not what its site file says")
        assert {event["site"] for event in running.events("site_changed")} == {"two"}
        metrics = (await running.http.get("/metrics", headers=KEY)).text
        assert 'tabfleet_site_check_ok{site="one"} 1.0' in metrics
        assert 'tabfleet_site_check_ok{site="two"} 0.0' in metrics
        await running.behave("two-a", check_changed_by="broken")
        await until(running, all_passed)

        # A file that passes is given to the children of its site.
        new = 'name = "one, mended"\n'
        (tmp_path / "one.toml").write_text(new)
        await eventually(
            lambda: all(texts(tmp_path, name, "sites") == ['name = "one"\n', new] for name in ("one-a", "one-b")),
            timeout_s=HANG_LIMIT_S,
        )
        await running.until_ready(*NAMES)
        # One that does not is refused.
        (tmp_path / "two.toml").write_text(BROKEN)
        why = "refused: step 'input' fails on two-a"
        await until(running, lambda seen: str(seen["two"]["new_file"]).startswith(why))
        assert (await site_checks(running))["one"]["new_file"] is None
        assert texts(tmp_path, "two-a", "sites") == ['name = "two"\n']
        for name in NAMES:
            others = {"one": {'name = "two"\n', BROKEN}, "two": {'name = "one"\n', new}}[name[:3]]
            assert not others & {*texts(tmp_path, name, "sites"), *texts(tmp_path, name, "checks")}

        # The sites are those that logins have now.
        (tmp_path / "fleet.toml").write_text(FLEET.replace("two-*", "*").replace("./two.toml", "./one.toml"))
        assert (await running.http.post("/admin/reload", headers=KEY)).json()["replaced"] == ["two-a"]
        assert set(await site_checks(running)) == {"one"}
        await eventually(lambda: texts(tmp_path, "two-a", "sites")[-1] == new, timeout_s=HANG_LIMIT_S)
        assert await running.end() == 0
        assert not running.events("side_task_failed")
        assert not running.events("site_task_failed")
