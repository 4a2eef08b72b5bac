"""One cell as a process: the logins of its share, what it says of itself, and how it stands without any."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import httpx

from tests.cells.running import COUNT, names_of, three_cells
from tests.coordinator.program import KEY, Running, coordinator, write_profile
from tests.coordinator.proxy.proxied import chat
from tests.support.json_lines import json_lines
from tests.support.waiting import eventually_async

HOP = {"x-tabfleet-hop": "1"}


async def ask(running: Running, prompt: str = "hello", *, hop: bool = False, model: str = "fake") -> httpx.Response:
    body = {**json.loads(chat(prompt)), "model": model}
    return await running.http.post("/v1/chat/completions", json=body, headers={**KEY, **(HOP if hop else {})})


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_three_cells_run_each_login_once_and_say_who_they_are(tmp_path: Path) -> None:
    async with three_cells(tmp_path, logins=2) as cells:
        for index, cell in enumerate(cells):
            status, body = await cell.running.ready()
            assert (status, body["cell"], body["shard"]) == (200, f"cell-{index}", f"{index}/{COUNT}")
            assert body["warnings"] == []
            named = {"cell": f"cell-{index}", "shard": f"{index}/{COUNT}"}
            assert (await cell.running.metrics()).sum("tabfleet_cell_info", **named) == 1
            (serving,) = cell.running.events("serving")
            assert serving["shard"] == f"{index}/{COUNT}"
            assert {event.get("cell") for event in cell.running.events()} == {f"cell-{index}"}
        names = [name for cell in cells for name in cell.names]
        started = [name for cell in cells for name in names if json_lines(cell.running.evidence / f"{name}.starts")]
        assert started == names, "each login is started by the cell of its share, and by no other"


async def test_a_cell_without_a_login_says_so_and_comes_alive_at_a_reload(tmp_path: Path) -> None:
    (other,), (own,) = names_of(0, 1), names_of(1, 1)
    write_profile(tmp_path / "active", other, "canary-cookie")
    async with coordinator(tmp_path, SHARD="1/3", CELL="empty") as running:
        said = "No login is in this cell's share, SHARD=1/3: the only usable login is in other shares."
        await running.until_warned(said)
        status, body = await running.ready()
        assert (status, body["status"], body["children"]) == (503, "unready", [])
        assert (await running.http.get("/live")).status_code == 200
        assert [event["message"] for event in running.events("attention")] == [said]
        assert code(await ask(running)) == (503, "starting")
        assert code(await ask(running, hop=True)) == (503, "starting")

        write_profile(tmp_path / "active", own)
        running.process.send_signal(signal.SIGHUP)
        await running.until_ready(own)
        assert (await running.ready())[1]["warnings"] == []
        assert (await ask(running)).status_code == 200

        # And back: the login is ended, the cell stays.
        (tmp_path / "active" / f"{own}.json").unlink()
        running.process.send_signal(signal.SIGHUP)
        await running.until_warned(said)
        assert (await running.ready())[0] == 503
        assert await running.end() == 0
    assert "canary-cookie" not in running.log.read_text()
    assert "canary-cookie" not in json.dumps(body)


async def test_a_request_that_may_go_elsewhere_is_refused_where_it_would_wait(tmp_path: Path) -> None:
    (name,) = names_of(0, 1)
    write_profile(tmp_path / "active", name)
    async with coordinator(tmp_path, SHARD="0/3") as running:
        await running.until_ready(name)
        assert (await ask(running, hop=True)).status_code == 200
        gate = tmp_path / "gate"
        await running.behave(name, hold=str(gate))
        held = asyncio.create_task(ask(running, "hold"))
        await until_counted(running, "tabfleet_leases_held")
        refused = await ask(running, hop=True)
        assert code(refused) == (503, "not_queued")
        assert (refused.headers["retry-after"], refused.headers["x-tabfleet-busy"]) == ("2", "true")
        last = asyncio.create_task(ask(running, "the last hop waits"))
        await until_counted(running, "tabfleet_queue_length")
        # Another cell's logins may have the model; whoever asks none after this one is told that there is none.
        unknown = [await ask(running, hop=hop, model="other") for hop in (True, False)]
        assert [code(answer) for answer in unknown] == [(503, "none_ready"), (404, "model_not_found")]
        assert "x-tabfleet-busy" not in unknown[0].headers
        gate.touch()
        assert [(await one).status_code for one in (held, last)] == [200, 200]
        ledger = [entry for entry in json_lines(running.evidence / f"{name}.ledger") if "digest" in entry]
        assert len(ledger) == 3, "a refused request was submitted"


async def test_without_a_share_nothing_is_said_of_cells_and_the_header_is_not_looked_at(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    async with coordinator(tmp_path) as running:
        await running.until_ready("ada")
        gate = tmp_path / "gate"
        await running.behave("ada", hold=str(gate))
        held = asyncio.create_task(ask(running, "hold"))
        await until_counted(running, "tabfleet_leases_held")
        waits = asyncio.create_task(ask(running, hop=True))
        await until_counted(running, "tabfleet_queue_length")
        gate.touch()
        assert [(await one).status_code for one in (held, waits)] == [200, 200]
        assert not {"cell", "shard"} & set((await running.ready())[1])
        assert "tabfleet_cell" not in (await running.http.get("/metrics", headers=KEY)).text
        assert not [event for event in running.events() if {"cell", "shard"} & set(event)]


async def until_counted(running: Running, gauge: str) -> None:
    async def is_counted() -> bool:
        return (await running.metrics()).sum(gauge) >= 1

    await eventually_async(is_counted)


async def test_a_cell_may_have_a_name_without_a_share(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    async with coordinator(tmp_path, ["--cell", "west"]) as running:
        await running.until_ready("ada")
        body = (await running.ready())[1]
        assert (body["cell"], body.get("shard")) == ("west", None)
        assert (await running.metrics()).sum("tabfleet_cell_info", cell="west", shard="") == 1
