"""The coordinator as a process: how it begins, how it ends, and what it says when it cannot begin."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

from contract.processes import ProcessIdentity
from tests.coordinator.program import KEY, Running, coordinator, environment, stream_from, until_live, write_profile
from tests.coordinator.proxy.proxied import chat
from tests.support import DIES_WITH_PARENT
from tests.support.ports import free_range
from tests.support.waiting import eventually


async def refused(tmp_path: Path, *flags: str, **given: str) -> tuple[int, str]:
    """Run `python -m coordinator.main`, which is expected to give up; its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "coordinator.main", *flags),
        env=environment(tmp_path, **given),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode()


CANNOT_START: dict[str, tuple[dict[str, str], int, str]] = {
    "bad setting": ({"PORT_STEP": "none"}, 2, "PORT_STEP (--port-step): got 'none'"),
    "no bucket": ({"PROFILE_BACKEND": "s3"}, 2, "AUTH_PROFILE_S3_BUCKET"),
    "empty folder": ({"LOCAL_PROFILE_DIR": "TMP/empty"}, 1, "no usable profile in TMP/empty"),
    "missing folder": ({"LOCAL_PROFILE_DIR": "TMP/missing"}, 1, "TMP/missing does not exist"),
    "broken profile": ({"LOCAL_PROFILE_DIR": "TMP/broken"}, 1, "ada.json"),
    "no site": ({"CHAT_SITE": ""}, 1, "CHAT_SITE (--site) is not set"),
    "unknown site": ({"CHAT_SITE": "nowhere"}, 1, "CHAT_SITE=nowhere: there is no such site file; known are"),
    "no browser": ({"BROWSER_EXECUTABLE": "", "PATH": "/nowhere"}, 1, "none of chromium, chromium-browser"),
    "no camoufox": ({"BROWSER_EXECUTABLE": "", "BROWSER_ENGINE": "camoufox"}, 1, "BROWSER_ENGINE=chromium or firefox"),
    "key file missing": ({"AUTH_KEY_FILE_PATH": "TMP/none.txt"}, 1, "none.txt"),
    "key required": ({"AUTH_KEY_FILE_PATH": "TMP/empty.txt", "REQUIRE_API_KEY": "1"}, 1, "REQUIRE_API_KEY"),
    "occupied port": ({"COORDINATOR_PORT": "TAKEN"}, 1, "Port TAKEN for the coordinator is in use"),
    "occupied child's port": ({"BASE_API_PORT": "TAKEN"}, 1, "Port TAKEN for child 1's API"),
    "ports that overlap": ({"BASE_API_PORT": "4000", "BASE_STREAM_PORT": "4000"}, 1, "wanted twice"),
}


# The others are shown without a process by test_plan.py, test_preflight.py, test_settings.py and test_profiles.py.
OF_EACH_KIND = ("bad setting", "empty folder", "unknown site", "no browser", "key file missing", "occupied port")


@pytest.mark.parametrize(
    "case", [case if case in OF_EACH_KIND else pytest.param(case, marks=pytest.mark.long) for case in CANNOT_START]
)
async def test_a_failed_start_is_explained_in_one_line(tmp_path: Path, case: str) -> None:
    given, exit_code, says = CANNOT_START[case]
    write_profile(tmp_path / "active", "ada")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/ada.json").write_text("{")
    (tmp_path / "empty.txt").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        meant = {name: value.replace("TMP", str(tmp_path)).replace("TAKEN", port) for name, value in given.items()}
        code, said = await refused(tmp_path, **meant)
    assert code == exit_code, said
    lines = [line for line in said.splitlines() if not line.startswith('{"timestamp"')]
    assert len(lines) == 1, said
    assert lines[0].startswith("tabfleet: ")
    assert says.replace("TMP", str(tmp_path)).replace("TAKEN", port) in lines[0]
    assert not list((tmp_path / "tmp").iterdir())


async def test_all_wrong_settings_are_reported_together(tmp_path: Path) -> None:
    code, said = await refused(tmp_path, "--max-queue=x", PORT_STEP="y")
    assert code == 2
    assert said.count("\n") == 2


async def test_start_serve_and_stop(tmp_path: Path) -> None:
    for name in ("ada", "grace"):
        write_profile(tmp_path / "active", name)
    (tmp_path / "active/bad.json").write_text("{")
    async with coordinator(tmp_path) as running:
        await running.until_ready("ada", "grace")
        status, body = await running.ready()
        assert (status, body["status"], body["unhealthy"], body["api_keys"]) == (200, "ready", [], "enforced")
        assert [item["name"] for item in body["rejected_profiles"]] == ["bad.json"]
        (shown, _) = body["children"]
        assert {"name", "state", "reason", "since", "restarts", "in_flight"} < set(shown)
        assert (shown["models"], shown["login_expires_at"], shown["capture"]) == (["fake"], 4e9, "network")
        asked = await running.http.post("/v1/chat/completions", json=json.loads(chat()), headers=KEY)
        assert asked.status_code == 200
        metrics = (await running.http.get("/metrics", headers=KEY)).text
        assert 'tabfleet_requests_total{code="",outcome="answered"} 1.0' in metrics
        assert 'tabfleet_children{state="READY"} 2.0' in metrics
        children = [event["pid"] for event in running.events("child_started")]
        assert await running.end() == 0
    assert [event["event"] for event in running.events()][-1] == "stopped"
    assert not [pid for pid in children if ProcessIdentity.of(pid)]
    assert list((tmp_path / "tmp").iterdir()) == []
    said = running.log.read_text()
    ours = [line for line in said.splitlines() if '"event": "child_output"' not in line]
    assert "Traceback" not in "\n".join(ours)  # the fake child, no part of the product, prints some when it is ended
    assert "secret-of" not in said
    assert "test-key" not in said
    assert [event["unhealthy"] for event in running.events("unready")] != []


async def test_a_login_that_expires_soon_and_one_that_cannot_be_refreshed_are_told_and_serve(tmp_path: Path) -> None:
    for name in ("ada", "grace"):
        write_profile(tmp_path / "active", name)
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    warning = "the login was not refreshed: look at x.toml, line 8 (login.refresh), and at the child's log"
    (evidence / "ada.json").write_text(json.dumps({"login_expires_at": time.time() + 2.04 * 86_400}))
    (evidence / "grace.json").write_text(json.dumps({"warning": warning, "refresh_failures": 2, "refreshes": 1}))
    async with coordinator(tmp_path) as running:
        await running.until_ready("ada", "grace")
        status, body = await running.ready()
        assert (status, body["unhealthy"]) == (200, [])
        expires, failed = body["warnings"]
        assert expires.startswith("ada: the login expires in 2.0 days, on ")
        assert failed == f"grace: {warning}"
        assert [child["warnings"] for child in body["children"]] == [[expires.removeprefix("ada: ")], [warning]]
        assert [child["login_kept"] for child in body["children"]] == [False, False]
        metrics = (await running.http.get("/metrics", headers=KEY)).text
        assert 'tabfleet_login_expires_in_days{child="ada"} 2.0' in metrics
        assert 'tabfleet_login_refreshes_total{outcome="failed"} 2.0' in metrics
        assert 'tabfleet_login_refreshes_total{outcome="refreshed"} 1.0' in metrics
    # Switched off, nothing warns of it.
    async with coordinator(tmp_path, EXPIRY_WARNING_DAYS="0") as running:
        await running.until_ready("ada", "grace")
        _, body = await running.ready()
        assert not [line for line in body["warnings"] if "expires" in line]


async def test_without_keys_the_api_is_open_with_a_warning(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    async with coordinator(tmp_path, AUTH_KEY_FILE_PATH="") as running:
        await running.until_ready("ada")
        _, body = await running.ready()
        assert body["api_keys"] == "open"
        assert any("No API keys" in line for line in body["warnings"])
        assert any("No API keys" in event["message"] for event in running.events("attention"))
        assert (await running.http.get("/v1/models")).status_code == 200
        assert (await running.http.post("/admin/reload")).status_code == 403


async def test_reloaded_keys_are_enforced_by_children(tmp_path: Path) -> None:
    """Keys that appear are enforced at the child too; keys that are lost stay in force, for a new process as well."""
    write_profile(tmp_path / "active", "ada")
    key_file = tmp_path / "auth_profiles/key.txt"
    base_port = free_range(20)

    async def at_the_child(headers: dict[str, str]) -> int:
        return (await running.http.get(f"http://127.0.0.1:{base_port}/v1/models", headers=headers)).status_code

    async def reloaded(times: int) -> None:
        running.process.send_signal(signal.SIGHUP)
        await eventually(lambda: len(running.events("reloaded")) == times)

    ports = {"BASE_API_PORT": str(base_port), "BASE_STREAM_PORT": str(base_port + 10)}
    async with coordinator(tmp_path, AUTH_KEY_FILE_PATH="", **ports) as running:
        await running.until_ready("ada")
        assert await at_the_child({}) == 200
        key_file.parent.mkdir()
        key_file.write_text("test-key\n")
        await reloaded(1)
        assert [await at_the_child(headers) for headers in ({}, KEY)] == [401, 200]

        key_file.unlink()
        await reloaded(2)
        (first,) = [event["pid"] for event in running.events("child_started")]
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: len(running.events("child_started")) == 2)
        await running.until_ready("ada")
        assert [await at_the_child(headers) for headers in ({}, KEY)] == [401, 200]
        assert any("no API keys" in line for line in (await running.ready())[1]["warnings"])
        assert await running.end() == 0


async def test_live_is_200_and_ready_names_the_missing_before_any_child_is_ready(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/ada.json").write_text(json.dumps({"never_ready": True}))
    async with coordinator(tmp_path) as running:
        assert (await running.http.get("/live")).status_code == 200
        await eventually(lambda: running.events("child_started"))
        status, body = await running.ready()
        assert (status, body["unhealthy"]) == (503, ["ada"])
        assert (body["children"][0]["state"], body["children"][0]["reason"]) == ("STARTING", "starting")
        refusal = await running.http.post("/v1/chat/completions", json=json.loads(chat()), headers=KEY)
        assert refusal.status_code == 503
        assert refusal.headers["retry-after"]
        assert await running.end() == 0


def s3_at(server: asyncio.Server | socket.socket) -> dict[str, str]:
    """Settings for a bucket behind this port, with the credentials of nobody."""
    listening = server if isinstance(server, socket.socket) else server.sockets[0]
    return {
        "PROFILE_BACKEND": "s3",
        "AUTH_PROFILE_S3_BUCKET": "bucket",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{listening.getsockname()[1]}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
        "AUTH_KEY_FILE_PATH": "",
    }


async def test_sigterm_while_profiles_are_fetched_ends_at_once(tmp_path: Path) -> None:
    """The bucket's server accepts and never speaks: the port answers all the same, and nobody gets in."""
    asked = asyncio.Event()

    async def never_speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never_speak, "127.0.0.1", 0)
    cache = str(tmp_path / "cache")
    async with coordinator(tmp_path, **s3_at(server), AUTH_PROFILE_CACHE_DIR=cache) as running:
        await asyncio.wait_for(asked.wait(), 60)
        assert (await running.http.get("/live")).status_code == 200
        status, body = await running.ready()
        assert (status, body["status"], body["children"]) == (503, "unready", [])
        assert (await running.http.get("/v1/models", headers=KEY)).status_code == 503
        assert (await running.http.post("/admin/reload", headers=KEY)).status_code == 503
        began = asyncio.get_running_loop().time()
        assert await running.end() == 0
        assert asyncio.get_running_loop().time() - began < 20  # a read of S3 is given up after 30 s
    server.close()
    assert "Traceback" not in running.log.read_text()
    assert not list((tmp_path / "tmp").iterdir())


async def test_sigterm_lets_running_answers_finish(tmp_path: Path) -> None:
    names = ("ada", "grace")
    for name in names:
        write_profile(tmp_path / "active", name)
        (tmp_path / "evidence").mkdir(exist_ok=True)
        (tmp_path / f"evidence/{name}.json").write_text(json.dumps({"tokens": 20, "token_s": 0.05}))
    async with coordinator(tmp_path) as running:
        await running.until_ready(*names)
        streams = [await stream_from(running, name) for name in names]
        running.process.send_signal(signal.SIGTERM)
        await eventually(lambda: running.events("draining"))
        assert (await running.http.get("/live")).status_code == 200
        status, body = await running.ready()
        assert (status, body["status"]) == (503, "draining")
        refused_now = await running.http.post("/v1/chat/completions", json=json.loads(chat()), headers=KEY)
        assert (refused_now.status_code, refused_now.headers["connection"]) == (503, "close")
        for stream in streams:
            assert b"".join([chunk async for chunk in stream.chunks()]).endswith(b"data: [DONE]\n\n")
        assert await asyncio.wait_for(running.process.wait(), 60) == 0
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("how", ["limit", "second TERM"])
async def test_streams_that_do_not_finish_end_with_an_error_event(tmp_path: Path, how: str) -> None:
    write_profile(tmp_path / "active", "ada")
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/ada.json").write_text(json.dumps({"tokens": 10_000, "token_s": 0.01}))
    async with coordinator(tmp_path, DRAIN_TIMEOUT_S="0.3" if how == "limit" else "60") as running:
        await running.until_ready("ada")
        stream = await stream_from(running, "long")
        running.process.send_signal(signal.SIGTERM)
        await eventually(lambda: running.events("draining"))
        if how == "second TERM":
            running.process.send_signal(signal.SIGTERM)
        told = b"".join([chunk async for chunk in stream.chunks()])
        assert json.loads(told.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]["code"] == "shutdown"
        assert b"[DONE]" not in told
        assert await asyncio.wait_for(running.process.wait(), 60) == 0
        assert running.events("drain_cut_short")[0]["told_again"] is (how == "second TERM")


async def test_an_orderly_end_is_one_though_nobody_reads_the_log_any_more(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    port, (read_end, write_end) = free_range(1), os.pipe()
    os.close(read_end)
    process = await asyncio.create_subprocess_exec(
        *DIES_WITH_PARENT,
        *(sys.executable, "-m", "tests.coordinator.run_with_fakes", str(tmp_path)),
        env=environment(tmp_path, COORDINATOR_PORT=str(port)),
        cwd=tmp_path,
        stderr=write_end,
    )
    os.close(write_end)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        running = Running(process, Path(os.devnull), tmp_path, http)
        await until_live(running)
        await running.until_ready("ada")
    assert await running.end() == 0


async def test_sighup_opens_renamed_log_files_anew(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    logs = tmp_path / "logs"
    async with coordinator(tmp_path, LOG_DIR=str(logs)) as running:
        await running.until_ready("ada")
        (logs / "ada.log").rename(logs / "ada.log.1")
        running.process.send_signal(signal.SIGHUP)
        await eventually((logs / "ada.log").exists)
        assert await running.end() == 0


@pytest.mark.parametrize("how", ["SIGHUP", "route"])
async def test_a_reload_touches_only_what_has_changed(tmp_path: Path, how: str) -> None:
    for name in ("ada", "grace", "gone"):
        write_profile(tmp_path / "active", name)
    async with coordinator(tmp_path) as running:
        await running.until_ready("ada", "grace", "gone")
        pids = {event["child"]: event["pid"] for event in running.events("child_started")}
        write_profile(tmp_path / "active", "ada", secret="another-secret")
        write_profile(tmp_path / "active", "new")
        (tmp_path / "active/gone.json").unlink()
        (tmp_path / "key.txt").write_text("test-key role=operate\nsecond-key\n")
        if how == "SIGHUP":
            running.process.send_signal(signal.SIGHUP)
        else:
            answer = await running.http.post("/admin/reload", headers=KEY)
            assert answer.json() == {"added": ["new"], "replaced": ["ada"], "removed": ["gone"]}
        await eventually(lambda: len(running.events("child_ready")) == 5, what=running.log.read_text)
        await running.until_ready("ada", "grace", "new")
        starts = [(event["child"], event["pid"]) for event in running.events("child_started")]
        assert [child for child, _ in starts[3:]] == ["ada", "new"] or [child for child, _ in starts[3:]] == [
            "new",
            "ada",
        ]
        assert ("grace", pids["grace"]) in starts
        second = {"authorization": "Bearer second-key"}
        assert (await running.http.get("/v1/models", headers=second)).status_code == 200
        assert (await running.http.post("/admin/reload", headers=second)).status_code == 403
        asked = await running.http.post("/v1/chat/completions", json=json.loads(chat()), headers=second)
        assert asked.status_code == 200


async def test_a_reload_that_fails_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    async with coordinator(tmp_path) as running:
        await running.until_ready("ada")
        (tmp_path / "active/ada.json").rename(tmp_path / "ada.json")
        answer = await running.http.post("/admin/reload", headers=KEY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "reload_failed")
        status, body = await running.ready()
        assert status == 200
        assert any("reload failed" in line for line in body["warnings"])
        (tmp_path / "ada.json").rename(tmp_path / "active/ada.json")
        assert (await running.http.post("/admin/reload", headers=KEY)).status_code == 200
        assert (await running.ready())[1]["warnings"] == []
        metrics = (await running.http.get("/metrics", headers=KEY)).text
        assert "tabfleet_hydration_failures_total 1.0" in metrics


@pytest.mark.parametrize(
    ("gone", "shown"),
    [
        ("active", "the folder of profiles cannot be read"),
        ("active/ada.json", "not one profile may be used"),
        ("key.txt", "the key file cannot be used"),
    ],
)
async def test_ready_shows_no_local_path_after_a_failed_reload(tmp_path: Path, gone: str, shown: str) -> None:
    write_profile(tmp_path / "active", "ada")
    async with coordinator(tmp_path) as running:
        await running.until_ready("ada")
        (tmp_path / gone).rename(tmp_path / "gone")
        running.process.send_signal(signal.SIGHUP)
        (event,) = await eventually(lambda: running.events("reload_failed"))
        assert str(tmp_path) in event["message"], "the operator learns it from the log"
        body = (await running.http.get("/ready")).text
        assert str(tmp_path) not in body
        reason = f"The last reload failed and changed nothing: {shown}; the log has the reason."
        assert json.loads(body)["warnings"] == [reason]


async def test_profiles_are_refreshed_periodically(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    async with coordinator(tmp_path, AUTH_PROFILE_REFRESH_S="0.2") as running:
        await running.until_ready("ada")
        write_profile(tmp_path / "active", "new")
        await running.until_ready("ada", "new")


async def test_console_log_format(tmp_path: Path) -> None:
    write_profile(tmp_path / "active", "ada")
    async with coordinator(tmp_path, ["--log-format", "console"]) as running:
        await running.until_ready("ada")
        assert await running.end(signal.SIGINT) == 0
    assert any("child_ready" in line and "child=ada" in line for line in running.log.read_text().splitlines())
