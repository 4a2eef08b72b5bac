"""The coordinator with a fleet file, as a process over fake children: started, reloaded, given a wrong one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from coordinator.site_files import site_path
from tests.coordinator.program import KEY, Running, coordinator, write_profile
from tests.coordinator.proxy.proxied import chat
from tests.coordinator.test_main import refused
from tests.support.json_lines import json_lines
from tests.support.waiting import HANG_LIMIT_S, eventually

DEMO = str(site_path("demo"))
SECRET = "pass-word-of-the-proxy"
FILE = """\
[[login]]
name = "grace"
site = "./own.toml"
locale = "de-CH"
proxy = "http://proxy.example:3128"
proxy_credentials_file = "credentials"

[[login]]
name = "ada"
models = ["demo-small"]

[[login]]
name = "alan"
weight = 2

[alias]
quick = ["own-model", "demo-small"]
"""


def prepare(tmp_path: Path) -> None:
    """Three logins, of which one is on a site of its own; each fake child has the models of its site."""
    for name, models in {
        "ada": ["demo-small", "demo-large"],
        "alan": ["demo-small", "demo-large"],
        "grace": ["own-model", "other"],
    }.items():
        write_profile(tmp_path / "active", name)
        (tmp_path / "evidence").mkdir(exist_ok=True)
        (tmp_path / f"evidence/{name}.json").write_text(json.dumps({"models": models}))
    (tmp_path / "own.toml").write_text("models = [{ name = 'own-model' }, { name = 'other' }]\n")
    (tmp_path / "credentials").write_text(f"user:{SECRET}\n")
    (tmp_path / "credentials").chmod(0o600)
    write(tmp_path, FILE)


def write(tmp_path: Path, text: str) -> None:
    (tmp_path / "fleet.toml").write_text(text)


def starts(tmp_path: Path, name: str) -> list[dict[str, Any]]:
    return json_lines(tmp_path / f"evidence/{name}.starts")


async def reload(running: Running) -> tuple[int, dict[str, Any]]:
    answer = await running.http.post("/admin/reload", headers=KEY)
    return answer.status_code, answer.json()


async def ask(running: Running, model: str) -> int:
    body = json.loads(chat(model=model))
    return (await running.http.post("/v1/chat/completions", json=body, headers=KEY)).status_code


async def until_starts(tmp_path: Path, running: Running, name: str, count: int) -> dict[str, Any]:
    """Wait until the child is ready in that start; return what it noted of it."""
    await eventually(lambda: len(starts(tmp_path, name)) == count, timeout_s=HANG_LIMIT_S)
    await running.until(name, "READY")
    return starts(tmp_path, name)[-1]


async def test_several_sites_in_one_coordinator(tmp_path: Path) -> None:
    prepare(tmp_path)
    given = {"FLEET_FILE": str(tmp_path / "fleet.toml"), "SITE_URL": "http://127.0.0.1:9/"}
    async with coordinator(tmp_path, **given) as running:
        await running.until_ready("ada", "alan", "grace")

        # Each child has its site and its surroundings, and SITE_URL is for CHAT_SITE alone.
        (ada,), (grace,) = starts(tmp_path, "ada"), starts(tmp_path, "grace")
        assert (ada["site"], ada["site_url"], ada["surroundings"]) == (DEMO, "http://127.0.0.1:9/", None)
        assert (grace["site"], grace["site_url"]) == (str(tmp_path / "own.toml"), None)
        proxy = f"http://user:{SECRET}@proxy.example:3128"
        assert grace["surroundings"] == {"proxy": proxy, "locale": "de-CH"}
        for part in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{grace['pid']}/{part}").read_bytes()

        # The model's name chooses; what a login does not serve is not asked of it.
        listed = (await running.http.get("/v1/models", headers=KEY)).json()["data"]
        assert {model["id"]: model["owned_by"] for model in listed} == {
            "demo-small": "demo",
            "demo-large": "demo",
            "own-model": "own",
            "other": "own",
            "quick": "tabfleet",
        }
        for model in ("demo-large", "demo-large", "own/other", "quick", "demo/demo-small"):
            assert await ask(running, model) == 200
        ledgers = {name: len(json_lines(tmp_path / f"evidence/{name}.ledger")) for name in ("grace", "alan")}
        assert ledgers["grace"] == 2
        assert ledgers["alan"] >= 2
        ada, grace = await running.child("ada"), await running.child("grace")
        assert (ada["models"], ada["site"], grace["site"]) == (["demo-small"], "demo", "own")

        # With its first model's login away, an alias goes on to the next.
        await running.behave("grace", unready="page_broken")
        await running.until("grace", "UNHEALTHY")
        assert await ask(running, "quick") == 200
        await running.behave("grace", unready=None)
        await running.until("grace", "READY")

        # A wrong file changes nothing, and says so.
        write(tmp_path, FILE.replace('locale = "de-CH"', 'locale = "de_CH"'))
        status, body = await reload(running)
        assert status == 502
        assert f"fleet file {tmp_path}/fleet.toml, line 4: login[0].locale: " in body["error"]["message"]
        _, shown = await running.ready()
        (warning,) = shown["warnings"]
        assert warning.endswith("the fleet file is wrong in line 4 at login[0].locale; the log has the reason.")
        assert str(tmp_path) not in json.dumps(shown)
        assert await ask(running, "quick") == 200

        # The browser of a login is replaced for another locale, but not for other models or weights.
        changed = FILE.replace("de-CH", "fr-CH").replace("weight = 2", "weight = 3").replace("demo-small", "demo-large")
        write(tmp_path, changed)
        assert await reload(running) == (200, {"added": [], "replaced": ["grace"], "removed": []})
        assert (await until_starts(tmp_path, running, "grace", 2))["surroundings"]["locale"] == "fr-CH"
        assert (await running.child("ada"))["models"] == ["demo-large"]
        assert (await running.ready())[1]["warnings"] == []

        # So is that of a login whose proxy has another password, and of one that has another site.
        (tmp_path / "credentials").write_text(f"user:another-{SECRET}\n")
        assert (await reload(running))[1]["replaced"] == ["grace"]
        assert "another" in (await until_starts(tmp_path, running, "grace", 3))["surroundings"]["proxy"]
        write(tmp_path, "[[login]]\nname = 'ada'\nsite = 'gradio'\n")
        assert (await reload(running))[1]["replaced"] == ["ada", "grace"]
        assert (await until_starts(tmp_path, running, "ada", 2))["site"] == str(site_path("gradio"))
        grace = await until_starts(tmp_path, running, "grace", 4)
        assert (grace["site"], grace["surroundings"]) == (DEMO, None)
        assert await ask(running, "quick") == 404
        assert len(starts(tmp_path, "alan")) == 1
        assert SECRET not in running.log.read_text()


async def test_a_name_that_no_profile_has_is_told(tmp_path: Path) -> None:
    prepare(tmp_path)
    write(tmp_path, "[[login]]\npattern = '*a*'\nsite = 'demo'\n[[login]]\nname = 'edsger'\nweight = 2\n")
    async with coordinator(tmp_path, CHAT_SITE="", FLEET_FILE=str(tmp_path / "fleet.toml")) as running:
        await running.until_ready("ada", "alan", "grace")
        _, shown = await running.ready()
        assert shown["warnings"] == ["the fleet file, line 4: no profile has the name 'edsger'"]


async def test_a_login_without_a_site_is_left_out_and_the_others_start(tmp_path: Path) -> None:
    prepare(tmp_path)
    write(tmp_path, "[[login]]\nname = 'ada'\nsite = 'demo'\n")
    async with coordinator(tmp_path, CHAT_SITE="", FLEET_FILE=str(tmp_path / "fleet.toml")) as running:
        await running.until_ready("ada")
        _, shown = await running.ready()
        assert [item["name"] for item in shown["rejected_profiles"]] == ["alan.json", "grace.json"]


async def test_a_wrong_file_at_the_start_is_explained_in_one_line(tmp_path: Path) -> None:
    prepare(tmp_path)
    write(tmp_path, FILE.replace("./own.toml", "./gone.toml"))
    code, said = await refused(tmp_path, FLEET_FILE=str(tmp_path / "fleet.toml"))
    lines = [line for line in said.splitlines() if not line.startswith('{"timestamp"')]
    assert (code, len(lines)) == (1, 1), said
    assert lines[0].startswith(f"tabfleet: fleet file {tmp_path}/fleet.toml, line 3: login[0].site: there is no such")
