"""The coordinator as a process, and its site file: checked, followed, tried again when the operator asks."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.coordinator.program import KEY, Running, coordinator, write_profile
from tests.support.json_lines import json_lines
from tests.support.waiting import eventually, eventually_async

OLD, NEW = 'name = "old"\n', 'name = "new"\n'
HANG_LIMIT_S = 60.0


async def until(running: Running, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Wait until what `/ready` says of the site is so, and return it."""

    async def look() -> dict[str, Any] | None:
        (site,) = (await running.ready())[1]["site_checks"]
        return dict(site) if holds(site) else None

    return await eventually_async(look, timeout_s=HANG_LIMIT_S)


def has_lines(path: Path, count: int) -> bool:
    return len(json_lines(path)) == count


async def test_a_running_fleet_checks_its_page_and_follows_its_site_file(tmp_path: Path) -> None:
    site = tmp_path / "mine.toml"
    site.write_text(OLD)
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    for name in ("a", "b"):
        write_profile(tmp_path / "active", name)
        (evidence / f"{name}.json").write_text(json.dumps({"check_changed_by": "new"}))

    def checks(text: str) -> int:
        return sum(note["text"] == text for name in ("a", "b") for note in json_lines(evidence / f"{name}.checks"))

    program = "tests.coordinator.run_with_short_waits"
    async with coordinator(tmp_path, program=program, CHAT_SITE=str(site), SITE_CHECK_S="0.2") as running:
        await running.until_ready("a", "b")
        seen = await until(running, lambda site: site["ok"])
        assert (seen["site"], seen["file"], seen["new_file"]) == ("mine", "mine.toml", None)
        assert 'tabfleet_site_check_ok{site="mine"} 1.0' in (await running.http.get("/metrics", headers=KEY)).text

        site.write_text(NEW)
        seen = await until(running, lambda site: site["new_file"])
        assert seen["ok"], "the page is what the file in use says"
        assert seen["new_file"].startswith("refused: step 'input' fails on ")
        assert str(tmp_path) not in json.dumps((await running.ready())[1])
        assert checks(NEW) == 2

        # The operator asks for it once more.
        assert (await running.http.post("/admin/reload", headers=KEY)).status_code == 200
        await eventually(lambda: checks(NEW) == 4, timeout_s=HANG_LIMIT_S)
        for name in ("a", "b"):
            await running.behave(name, check_changed_by=None)
            (evidence / f"{name}.json").unlink()
        running.process.send_signal(signal.SIGHUP)
        await until(running, lambda site: site["new_file"] is None)
        for name in ("a", "b"):  # the file is in use before the children have it
            started = evidence / f"{name}.sites"
            await eventually(partial(has_lines, started, 2), timeout_s=HANG_LIMIT_S)
            assert [note["text"] for note in json_lines(started)] == [OLD, NEW]
            assert {note["shown"] for note in json_lines(started)} == {str(site)}
        await running.until_ready("a", "b")
        assert await running.end() == 0
        assert not running.events("side_task_failed")
