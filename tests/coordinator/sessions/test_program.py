"""The session store in a running coordinator: granted at each start, told in /ready and /metrics."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.coordinator.program import coordinator, write_profile
from tests.coordinator.test_main import refused
from tests.support import age


async def test_trouble_with_a_session_is_a_warning_by_name_and_ends_nothing(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    key = age.new_key(tmp_path / "session-key")
    given = {"SESSION_DIR": str(tmp_path / "volume/sessions"), "SESSION_KEY_FILE": str(key)}
    async with coordinator(tmp_path, **given) as running:
        await running.until_ready("ada")
        fence = tmp_path / "volume/sessions/ada.fence"
        assert fence.read_text().startswith("1 ")
        assert (await running.ready())[1]["warnings"] == []
        report = {
            "saves": 2,
            "failures": 1,
            "saved_at": 1.75e9,
            "trouble": "cannot be written: No space left on device",
        }
        await running.behave("ada", session=report)
        await running.until_warned("The saved session of ada cannot be written: No space left on device.")
        assert (await running.ready())[0] == 200
        seen = await running.metrics()
        assert seen.sum("tabfleet_session_saves_total") == 2
        assert seen.sum("tabfleet_session_save_failures_total") == 1
        assert seen.sum("tabfleet_session_oldest_save_timestamp_seconds") == 1.75e9
        await running.behave("ada", session=report | {"saves": 3, "trouble": None})
        await running.until_warned()
        await running.behave("ada", signal=signal.SIGKILL)
        await running.until("ada", "BACKOFF")
        await running.until_ready("ada")
        assert fence.read_text().startswith("2 ")
        assert await running.end() == 0
    assert not any("AGE-SECRET-KEY" in path.read_text() for path in (running.log, *running.evidence.iterdir()))


async def test_a_volume_that_cannot_be_used_is_a_warning(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    (tmp_path / "volume").write_text("no folder")
    async with coordinator(tmp_path, SESSION_DIR=str(tmp_path / "volume/sessions")) as running:
        await running.until_ready("ada")
        lost = "logins that change are lost when the coordinator ends"
        await running.until_warned(f"SESSION_DIR cannot be used: Not a directory; {lost}.")
        assert await running.end() == 0


async def test_a_key_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    (tmp_path / "key").write_text("age1recipient")
    code, said = await refused(tmp_path, SESSION_DIR=str(tmp_path / "s"), SESSION_KEY_FILE=str(tmp_path / "key"))
    assert code == 2
    assert said.count("\n") == 1
    assert "(--session-key-file) line 1 is no age identity AGE-SECRET-KEY-1...; make one with age-keygen" in said
