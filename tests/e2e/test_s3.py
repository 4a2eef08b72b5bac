"""Profiles and keys from S3, and reloads that affect only what has changed.

The tests share one fleet and depend on their order, because browsers take long to start.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.fleet import MODEL, Fleet, Site, command_line, eventually, fetch, fleet, log_in_by_request
from tests.support.json_lines import json_lines
from tests.support.s3 import BUCKET, S3Server, s3_server

# tests/coordinator/profiles shows most of it without browsers.
pytestmark = pytest.mark.slow

KEY = "key-from-the-bucket"
LONG = "[[tokens=1000 delay_ms=0 stall=middle]] A long story, please."
USERS = ("ada", "grace")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run an S3 server for all tests of the module."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


def s3_environment(s3: S3Server, cache: Path) -> dict[str, str]:
    """Return the settings of a coordinator whose profiles and keys all come from the bucket."""
    return {
        **s3.credentials(),
        "PROFILE_BACKEND": "s3",
        "AUTH_PROFILE_S3_BUCKET": BUCKET,
        "AUTH_PROFILE_S3_PREFIX": "fleet",
        "AUTH_PROFILE_S3_READ_TIMEOUT_S": "2",
        "STREAM_IDLE_TIMEOUT_S": "250",  # the story stands still while children start
        "AUTH_PROFILE_CACHE_DIR": str(cache),
        "LOCAL_PROFILE_DIR": "",
        "AUTH_KEY_FILE_PATH": "",
    }


@pytest.fixture(scope="module")
def running(s3: S3Server, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Run a fleet whose profiles and keys come from the bucket."""
    folder = tmp_path_factory.mktemp("s3-fleet")
    logins = log_in_by_request(site, folder / "logins", USERS)
    for user in USERS:
        upload(s3, logins / f"{user}.json", user)
    s3.upload({"fleet/key.txt": f"{KEY} role=operate\n".encode()})
    environment = s3_environment(s3, folder / "cache")
    with fleet(site, folder, folder / "run", keys=[KEY], **environment) as coordinator:
        coordinator.wait_for(ada="READY", grace="READY")
        yield coordinator


def upload(s3: S3Server, profile: Path, name: str) -> None:
    """Upload a profile under this name."""
    s3.upload({f"fleet/active/{name}.json": profile.read_bytes()})


def reload(coordinator: Fleet) -> tuple[int, Any]:
    """Post `/admin/reload`; return status and body."""
    return fetch(f"{coordinator.url}/admin/reload", headers={"authorization": f"Bearer {KEY}"}, body={})


def ask(client: openai.OpenAI, prompt: str) -> str:
    """Send a prompt and return the answer."""
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content or ""


class LongAnswer:
    """A long streamed answer that is read in a thread, and stalls in its middle until `end`."""

    def __init__(self, coordinator: Fleet) -> None:
        self.text = ""
        self.begun = threading.Event()
        self._client = coordinator.client(max_retries=0)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        assert self.begun.wait(30)

    @property
    def running(self) -> bool:
        """Return whether the answer is still being received."""
        return self._thread.is_alive()

    def end(self, site: Site) -> str:
        """Let the answer go on, wait for its end, and return its text."""
        site.clear_faults()
        self._thread.join(90)
        assert not self.running
        return self.text

    def _read(self) -> None:
        messages: Any = [{"role": "user", "content": LONG}]
        for chunk in self._client.chat.completions.create(model=MODEL, messages=messages, stream=True):
            self.text += chunk.choices[0].delta.content or ""
            self.begun.set()


def test_a_key_from_the_bucket_gets_an_answer_from_the_page(running: Fleet, site: Site) -> None:
    before = site.last_id()
    answer = ask(running.client(), "Who keeps my login?")
    (entry,) = site.ledger(since=before)
    assert (answer, entry["token"] in answer) == (entry["answer"], True)


def test_requests_without_the_key_are_refused(running: Fleet) -> None:
    for wrong in ("none", "another-key"):
        with pytest.raises(openai.AuthenticationError):
            ask(openai.OpenAI(base_url=f"{running.url}/v1", api_key=wrong), "hi")
    assert fetch(f"{running.url}/v1/models")[0] == 401
    assert running.ready()[1]["api_keys"] == "enforced"


def test_log_names_the_bucket_then_the_children_and_no_secret(running: Fleet, s3: S3Server) -> None:
    log = running.log.read_text()
    assert log.index("Hydrated profiles from s3://profiles/fleet/active/") < log.index("children_launched")
    assert s3.credentials()["AWS_SECRET_ACCESS_KEY"] not in log
    assert KEY not in log


def test_a_reload_affects_only_what_has_changed(running: Fleet, s3: S3Server, site: Site, tmp_path: Path) -> None:
    before = site.last_id()
    answer_stream = LongAnswer(running)
    (busy,) = [name for name, child in running.children().items() if child["in_flight"]]
    (other,) = set(USERS) - {busy}
    pids = {name: running.child_pid(name) for name in USERS}
    upload(s3, log_in_by_request(site, tmp_path / "again", [other]) / f"{other}.json", other)
    upload(s3, log_in_by_request(site, tmp_path / "third", ["ada"]) / "ada.json", "third")
    s3.upload({"fleet/active/broken.json": b"{"})
    s3.upload({"fleet/key.txt": f"{KEY} role=operate\nsecond-key\n".encode()})

    status, changed = reload(running)
    assert status == 200, changed
    assert (changed["added"], changed["replaced"], changed["removed"]) == (["third"], [other], [])
    eventually(lambda: _is_another(running, other, pids[other]), timeout_s=60, what=f"a new process of {other}")
    eventually(lambda: _ready(running) == {"ada", "grace", "third"}, timeout_s=60, what="three children")

    assert answer_stream.running
    assert running.child_pid(busy) == pids[busy]
    (rejected,) = running.ready()[1]["rejected_profiles"]
    assert rejected["name"] == "broken.json"
    ask(running.client().with_options(api_key="second-key"), "Do you take the new key?")
    assert [_status_at_child(running, busy, key) for key in ("second-key", "none")] == [200, 401]
    text = answer_stream.end(site)
    submission = next(entry for entry in site.ledger(since=before) if entry["prompt"] == LONG)
    assert (text, submission["outcome"]) == (submission["answer"], "done")
    assert len(text.split()) > 1000
    assert running.child_pid(busy) == pids[busy]


def _status_at_child(running: Fleet, name: str, key: str) -> int:
    """Return the status of a request sent to the child itself."""
    command = command_line(running.child_pid(name))
    port = command[command.index("--server-port") + 1]
    return fetch(f"http://127.0.0.1:{port}/v1/models", headers={"authorization": f"Bearer {key}"})[0]


def _ready(running: Fleet) -> set[str]:
    return {name for name, child in running.children().items() if child["state"] == "READY"}


def _is_another(running: Fleet, name: str, pid: int) -> bool:
    try:
        return running.child_pid(name) != pid
    except AssertionError:
        return False


def test_sighup_stops_the_child_of_a_removed_profile(running: Fleet, s3: S3Server) -> None:
    s3.delete("fleet/active/third.json", "fleet/active/broken.json")
    running.process.send_signal(signal.SIGHUP)
    eventually(lambda: set(running.children()) == set(USERS), timeout_s=60, what="the end of third")
    assert running.ready()[1]["rejected_profiles"] == []
    assert not list((running.folder.parent / "cache").rglob("third.json"))


def test_removed_keys_stay_valid_with_a_warning_in_ready(running: Fleet, s3: S3Server) -> None:
    s3.delete("fleet/key.txt")
    assert reload(running)[0] == 200
    assert any("key.txt has no keys any more" in warning for warning in running.ready()[1]["warnings"])
    with pytest.raises(openai.AuthenticationError):
        ask(openai.OpenAI(base_url=f"{running.url}/v1", api_key="none"), "hi")
    assert [_status_at_child(running, "ada", key) for key in (KEY, "none")] == [200, 401]
    s3.upload({"fleet/key.txt": f"{KEY} role=operate\n".encode()})
    assert reload(running)[0] == 200
    assert running.ready()[1]["warnings"] == []


def test_a_failed_reload_changes_nothing_and_warns_in_ready(running: Fleet, s3: S3Server) -> None:
    pids = {name: running.child_pid(name) for name in USERS}
    s3.kill()
    status, answer = reload(running)
    assert (status, answer["error"]["code"]) == (502, "reload_failed")
    (warning,) = running.ready()[1]["warnings"]
    assert warning.startswith(
        "The last reload failed and changed nothing: s3://profiles/fleet/active/ cannot be listed"
    )
    assert {name: running.child_pid(name) for name in USERS} == pids
    ask(running.client(), "Are you still there?")


@pytest.mark.long  # tests/coordinator/profiles/test_stale.py starts the program so, without browsers
def test_a_start_without_s3_uses_the_cache_if_allowed(running: Fleet, s3: S3Server, site: Site, tmp_path: Path) -> None:
    cache = running.folder.parent / "cache"
    environment = {**s3_environment(s3, cache), "AUTH_PROFILE_ALLOW_STALE": "true", "MAX_CHILDREN": "1"}
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(60)
    with fleet(site, tmp_path, tmp_path / "run", keys=[KEY], **environment) as stale:
        eventually(lambda: stale.ready()[1]["warnings"], timeout_s=30, what="the warning")
        (warning,) = stale.ready()[1]["warnings"]
        assert warning.startswith("stale profiles: S3 cannot be reached, these are of ")
        assert [event["stale"] for event in _hydrations(stale)] == [True]
        eventually(lambda: stale.ready()[1]["status"] == "ready", timeout_s=60, what="a child")
        ask(stale.client(), "Do you remember me?")


def _hydrations(coordinator: Fleet) -> list[dict[str, Any]]:
    return [event for event in json_lines(coordinator.log) if event["event"] == "profiles_hydrated"]
