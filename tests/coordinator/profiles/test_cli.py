"""``python -m coordinator.profiles``: results on stdout, everything else on stderr, documented exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from coordinator.profiles.__main__ import EXIT_CODES
from tests.coordinator.profiles.support.program import COMMAND, ROOT, failure, run
from tests.coordinator.profiles.support.relay import FORWARD, relay
from tests.coordinator.profiles.support.states import YEAR_2100, cookie, login, state

if TYPE_CHECKING:
    from pathlib import Path

    from tests.coordinator.profiles.support.bucket import Bucket

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One good profile, and one that is not."""
    (tmp_path / "active").mkdir()
    (tmp_path / "active" / "ann.json").write_bytes(
        state(cookie(), cookie(name="b", domain=".example.org", expires=-1), cookie(name="old", expires=5))
    )
    (tmp_path / "active" / "bad.json").write_bytes(b"[]")
    return tmp_path / "active"


# hydrate


def test_hydrate_prints_the_result_and_logs_beside_it(folder: Path) -> None:
    done = run(["hydrate", "--backend", "local", "--profiles", str(folder)], ENVIRONMENT)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"profiles_dir": str(folder), "key_file": None})
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["event"] for event in events] == ["profile_rejected", "profiles_hydrated"]
    assert events[0]["reason"] == "is a list, not an object with cookies and origins"
    assert events[1]["message"] == f"Hydrated profiles from {folder}"


def test_hydrate_from_s3_by_flags_alone(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"first-key\n")
    cache = str(tmp_path / "cache")
    flags = ["--auth-profile-s3-bucket", "profiles", "--auth-profile-s3-prefix", bucket.prefix]
    done = run(
        ["hydrate", "--backend", "s3", *flags, "--auth-profile-cache-dir", cache],
        {**ENVIRONMENT, **bucket.server.credentials()},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "profiles_dir": f"{cache}/current/active",
        "key_file": f"{cache}/current/key.txt",
    }
    assert f'"message": "Hydrated profiles from {bucket.uri}"' in done.stderr
    assert "first-key" not in done.stderr


def test_hydrate_that_is_interrupted_ends_quietly(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(ann=login("ann"))
    reached, released = threading.Event(), threading.Event()

    def hold(line: str) -> bytes | None:
        if "ann.json" in line:
            reached.set()
            released.wait(30)
        return FORWARD

    with relay(bucket.server.url, hold) as holding:
        environment = bucket.environment(tmp_path / "cache", AWS_ENDPOINT_URL_S3=holding.url)
        with subprocess.Popen(
            [*COMMAND, "hydrate"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as running:
            assert reached.wait(30)
            running.send_signal(signal.SIGINT)
            released.set()
            out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, b"", b"")


# check


def test_check_prints_a_table(folder: Path) -> None:
    done = run(["check", "--profiles", str(folder)], ENVIRONMENT)
    assert done.returncode == 1
    lines = [
        [cell.strip() for cell in line.strip("│ ┃\n").replace("┃", "│").split("│")] for line in done.stdout.splitlines()
    ]
    assert ["profile", "site cookies", "earliest expiry", "verdict"] in lines
    assert ["ann.json", "chat.example.com 1", "2100-01-01 00:00 UTC", "ok"] in lines
    assert ["example.org 1"] in [[cell for cell in line if cell] for line in lines]
    assert ["bad.json", "-", "-", "is a list, not an object with cookies and origins"] in lines
    assert "1 of 2 usable, no API keys: the API would be open" in done.stdout


def test_check_prints_json_for_machines(folder: Path) -> None:
    done = run(["check", "--json", "--profiles", str(folder)], ENVIRONMENT)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout) == {
        "location": str(folder),
        "profiles": [
            {
                "name": "ann.json",
                "cookies": {"chat.example.com": 1, "example.org": 1},
                "expires_at": YEAR_2100,
                "reason": None,
            },
            {
                "name": "bad.json",
                "cookies": {},
                "expires_at": None,
                "reason": "is a list, not an object with cookies and origins",
            },
        ],
        "keys": 0,
    }


def test_check_of_s3_writes_nothing(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(ann=login("ann"), bob=login("bob"))
    bucket.put_keys(b"first-key\nsecond-key\n")
    done = run(["check", "--json"], bucket.environment(tmp_path / "cache"))
    report = json.loads(done.stdout)
    assert (done.returncode, report["keys"], report["location"]) == (0, 2, bucket.uri)
    assert [profile["reason"] for profile in report["profiles"]] == [None, None]
    assert list(tmp_path.iterdir()) == []


def test_check_finds_a_bad_key_file_in_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(ann=login("ann"))
    bucket.put_keys(b"two words\n")
    code, line = failure(run(["check"], bucket.environment(tmp_path / "cache")))
    assert code == 7
    assert line.startswith(f"s3://profiles/{bucket.prefix}/key.txt: key file ")
    assert ", line 1: a key has no spaces or control characters" in line
    assert "words" not in line


def test_check_without_a_usable_profile_has_a_code_of_its_own(folder: Path) -> None:
    (folder / "ann.json").unlink()
    assert run(["check", "--profiles", str(folder)], ENVIRONMENT).returncode == 3


def test_check_where_all_is_well(folder: Path) -> None:
    (folder / "bad.json").unlink()
    assert run(["check", "--profiles", str(folder)], ENVIRONMENT).returncode == 0


# both


@pytest.mark.parametrize("command", ["hydrate", "check"])
def test_missing_folder_has_a_code_of_its_own(tmp_path: Path, command: str) -> None:
    code, line = failure(run([command, "--profiles", str(tmp_path / "gone")], ENVIRONMENT))
    assert code == 8
    assert line.startswith(f"the profile folder {tmp_path}/gone does not exist;")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "s3"], "PROFILE_BACKEND=s3 needs AUTH_PROFILE_S3_BUCKET"),
        (["--no-such-flag"], "unknown flag --no-such-flag"),
        (["--auth-profile-s3-read-timeout-s", "soon"], "--auth-profile-s3-read-timeout-s"),
    ],
)
def test_wrong_setting_has_a_code_of_its_own(arguments: list[str], message: str) -> None:
    code, line = failure(run(["hydrate", *arguments], ENVIRONMENT))
    assert code == 2
    assert line.startswith(message)


def test_error_in_the_program_itself_shows_no_traceback_and_no_text(folder: Path) -> None:
    broken = (
        "import coordinator.profiles.__main__ as program\n"
        "def check(*_):\n    raise RuntimeError('token-of-ann')\n"
        "program.check = check\n"
        f"raise SystemExit(program.main(['check', '--profiles', {str(folder)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", broken], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (9, "")
    event = json.loads(done.stderr)
    assert (event["event"], event["error"]) == ("command_failed", "RuntimeError")
    assert "token-of-ann" not in done.stderr


def test_a_wrong_fleet_file_has_an_exit_code_of_its_own(folder: Path) -> None:
    (folder.parent / "fleet.toml").write_text("[[login]]\nname = 'ann'\nsite = 'nowhere'\n")
    flags = ["--profiles", str(folder), "--fleet-file", str(folder.parent / "fleet.toml")]
    code, line = failure(run(["hydrate", *flags], ENVIRONMENT))
    assert code == 10
    assert "fleet.toml, line 3: login[0].site: there is no such site file" in line


def test_help_names_variables_permissions_and_exit_codes() -> None:
    done = run(["--help"], ENVIRONMENT)
    assert done.returncode == 0
    for word in ("AUTH_PROFILE_S3_BUCKET", "s3:ListBucket", "s3:GetObject", "AUTH_KEY_FILE_PATH", "exit codes:"):
        assert word in done.stdout


def test_exit_codes_of_the_guide_are_those_of_the_program() -> None:
    guide = (ROOT / "docs" / "deployment-prod.md").read_text()
    assert [code for code, _, meaning in EXIT_CODES if f"| {code} | {meaning} |" not in guide] == []


def test_progress_is_shown_on_a_terminal_and_leaves_stdout_clean(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put(**{f"user{number}": login(f"user{number}") for number in range(40)})
    terminal, its_end = os.openpty()
    with subprocess.Popen(
        [*COMMAND, "hydrate"],
        cwd=ROOT,
        env={**bucket.environment(tmp_path / "cache"), "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=its_end,
    ) as running:
        os.close(its_end)
        shown = bytearray()
        reader = threading.Thread(target=_drain, args=(terminal, shown))
        reader.start()
        out, _ = running.communicate(timeout=60)
        reader.join(30)
    os.close(terminal)
    assert (running.returncode, list(json.loads(out))) == (0, ["profiles_dir", "key_file"])
    assert "profiles" in shown.decode()
    assert "100%" in shown.decode()


def test_table_on_a_terminal_is_not_torn_by_a_bar_with_nothing_to_show(tmp_path: Path) -> None:
    (tmp_path / "ann.json").write_bytes(login("ann"))
    terminal, its_end = os.openpty()
    shown = bytearray()
    reader = threading.Thread(target=_drain, args=(terminal, shown))
    with subprocess.Popen(
        [*COMMAND, "check", "--profiles", str(tmp_path)],
        cwd=ROOT,
        env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "90"},
        stdout=its_end,
        stderr=its_end,
    ) as running:
        os.close(its_end)
        reader.start()
        assert running.wait(60) == 0
        reader.join(30)
    os.close(terminal)
    lines = shown.decode().splitlines()
    # The title is the folder, in as many lines as it takes in a table of this width.
    assert tmp_path.name in re.sub(r"\x1b\[[\d;]*m|\s", "", "".join(lines[:2]))
    assert "1 of 1 usable, no API keys: the API would be open" in lines[-1]


def _drain(terminal: int, shown: bytearray) -> None:
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # how Linux says that the other end of a terminal is closed
            return
        shown += data


def test_program_is_a_module_that_can_be_imported_without_running() -> None:
    done = subprocess.run([sys.executable, "-c", "import coordinator.profiles.__main__"], cwd=ROOT, check=False)
    assert done.returncode == 0
