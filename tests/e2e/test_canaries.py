"""Plant secrets, cause successes and failures of every kind, then search every output for the secrets."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

from browser.site.load import SITES_DIR
from tests.e2e.fleet import MODEL, PASSWORDS, Fleet, Site, command_line, descendants, eventually, fetch, fleet
from tests.support import age
from tests.support.etcd import Tls, etcd_server
from tests.support.pictures import image, part
from tests.support.webhooks import SECRET, URL_TOKEN, webhook_server, write_secret

KEY = "canary-key-5b1f0c"
WRONG_KEY = "canary-wrong-key-77aa"
REPEAT_KEY = "canary-idempotency-key-3e8d"
PROMPT = "canary-prompt-91d2"
IMAGE: Any = part(image(mark=b"canary-image-40ce"))


# CI runs both; a host of several children has more outputs.
@pytest.mark.parametrize("spare_browsers", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_no_secret_is_in_any_output(
    site: Site, profiles: Path, tmp_path: Path, empty_tmp: Path, spare_browsers: int
) -> None:
    outputs: dict[str, str] = {}
    before = site.last_id()
    store = tmp_path / "volume" / "sessions"
    claims = tmp_path / "etcd"
    claims.mkdir()
    tls = Tls.make(claims)
    session_key = age.new_key(tmp_path / "session-key.txt")
    more = {
        "SESSION_DIR": str(store),
        "SESSION_KEY_FILE": str(session_key),
        "TMPDIR": str(empty_tmp),
        "LOGINS_PER_BROWSER": str(1 + spare_browsers),
        "SPARE_BROWSERS": str(spare_browsers),
        "LOG_LEVEL": "debug",
        "BACKOFF_MAX_S": "0.5",
        "CHAT_SITE": str(_logs_in_by_steps(profiles, tmp_path)),
        "ALERT_SECRET_FILE": str(write_secret(tmp_path)),
        "ALERT_STATE_FILE": str(tmp_path / "alerts.json"),
    }
    if spare_browsers:
        more["LOG_DIR"] = str(tmp_path / "logs")
    with (
        webhook_server() as told,
        etcd_server(claims, tls=tls) as etcd,
        fleet(site, profiles, tmp_path / "fleet", keys=[KEY], ALERT_URL=told.url, **more, **etcd.settings()) as running,
    ):
        running.wait_for(ada="READY", grace="READY")
        if spare_browsers:  # the killed child goes on in it
            eventually(lambda: running.ready()[1]["spare_browsers"], timeout_s=60, what="a spare browser")
        outputs["errors"] = "\n".join(_make_trouble(running, site))
        running.wait_for(ada="READY", grace="READY")
        for path in ("/live", "/ready", "/health", "/v1/models"):
            outputs[path] = json.dumps(fetch(running.url + path)[1])
        outputs["/metrics"] = _metrics(running)
        planted = _secrets(profiles)
        _lose_the_login_of_grace(running, profiles)
        eventually(lambda: "login_lost" in told.kinds(), timeout_s=60, what="the alert of a lost login")
        assert running.screenshot("ada")[0] == 200
        outputs["command lines"] = "\n".join(" ".join(command_line(pid)) for pid in descendants(running.process.pid))
        eventually(lambda: list(store.glob("*.session")), timeout_s=60, what="a saved session")
        kept = [*store.iterdir(), *(path for path in empty_tmp.glob("*/[ch]*/*/*") if path.is_file())]
        outputs["files of the store and the run folders"] = "\n".join(
            path.read_bytes().decode("latin-1") for path in kept
        )
        session = eventually(
            lambda: etcd.values().get("/tabfleet/session/ada", b""),
            timeout_s=60,
            what="a session in the store of claims",
        )
        outputs["what is in etcd"] = repr(etcd.values())
        assert "/tabfleet/note/grace" in outputs["what is in etcd"]
        # With all that was in it before.
        files = [path for path in (claims / "m0").rglob("*") if path.is_file()]
        outputs["files of etcd"] = "\n".join(path.read_bytes().decode("latin-1") for path in files)
        outputs["file names"] = "\n".join(map(str, [*tmp_path.rglob("*"), *empty_tmp.rglob("*")]))
    outputs["log"] = "".join(path.read_text() for path in (running.log, *tmp_path.glob("logs/*.log")))
    outputs["alerts"] = "".join(one.raw.decode() for one in told.received)
    outputs["what is kept of alerts"] = (tmp_path / "alerts.json").read_text()
    assert session.startswith(b"age-encryption.org/v1\n")
    (tmp_path / "ada.session").write_bytes(session)
    assert b'"demo_session"' in age.decrypt(session_key, tmp_path / "ada.session")
    secrets = (
        planted
        | _secrets(profiles)
        | {KEY, WRONG_KEY, REPEAT_KEY, PROMPT, *_pieces_of_the_image()}
        | {SECRET, SECRET.removeprefix("whsec_"), URL_TOKEN}
        | {entry["token"] for entry in site.ledger(since=before)}
        | {line for line in session_key.read_text().splitlines() if not line.startswith("#")}
        | {line for line in tls.key_file.read_text().splitlines() if not line.startswith("-")}
    )
    assert len(secrets) > 6
    assert "logged_in_by_steps" in outputs["log"]
    assert "child_ready" in outputs["log"]
    assert ("spare_browser_taken" in outputs["log"]) == bool(spare_browsers)
    assert bool(spare_browsers) == any(path.name.startswith("@host-") for path in tmp_path.glob("logs/*.log"))
    assert "alert_sent" in outputs["log"]
    assert '"login_lost"' in outputs["alerts"]
    for name, output in outputs.items():
        found = [secret for secret in secrets if secret in output]
        assert not found, f"{name} shows {found}"
        assert "Traceback" not in output, f"{name} shows a traceback"


def _logs_in_by_steps(profiles: Path, folder: Path) -> Path:
    """Give ada a profile of secrets alone, and return a site file whose steps log her in."""
    (profiles / "ada.json").write_text(json.dumps({"secrets": {"password": PASSWORDS["ada"]}}))
    steps = """[login]
steps = [
  { fill = "input[name=username]", value = "ada" },
  { fill = "input[name=password]", value = "{secret:password}" },
  { press = "Enter", on = "input[name=password]" },
]"""
    file = folder / "by-steps.toml"
    file.write_text((SITES_DIR / "demo.toml").read_text().replace("[login]", steps))
    return file


def _make_trouble(running: Fleet, site: Site) -> list[str]:
    """Cause an answer, refusals, site failures and a killed child; return all error texts."""
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [
        {"role": "user", "content": [{"type": "text", "text": PROMPT}, IMAGE]}
    ]
    client = running.client(max_retries=0)
    client.chat.completions.create(model=MODEL, messages=messages)
    texts = [running.screenshot(name, key=key)[2].decode() for name, key in (("nobody", KEY), ("ada", WRONG_KEY))]
    with pytest.raises(openai.AuthenticationError) as wrong:
        openai.OpenAI(base_url=f"{running.url}/v1", api_key=WRONG_KEY).models.list()
    texts.append(wrong.value.response.text)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=messages, n=2)
    texts.append(refused.value.response.text)
    broken: Any = {"type": "image_url", "image_url": {"url": f"{IMAGE['image_url']['url']}!"}}
    with pytest.raises(openai.BadRequestError) as no_image:
        client.chat.completions.create(model=MODEL, messages=[*messages, {"role": "user", "content": [broken]}])
    texts.append(no_image.value.response.text)
    once = {"Idempotency-Key": REPEAT_KEY}
    for kind, headers in (("http_500", {}), ("break_off", once)):
        site.fault(kind, count=1)
        for _ in range(2):  # the second is refused, or has the answer of the first
            with pytest.raises(openai.APIError) as failed:
                client.chat.completions.create(model=MODEL, messages=messages, extra_headers=headers)
            texts.append(str(failed.value) + str(failed.value.body))
    with pytest.raises(openai.ConflictError) as reused:
        client.chat.completions.create(model="demo-large", messages=messages, extra_headers=once)
    texts.append(reused.value.response.text)
    ada = running.child_pid("ada")
    os.kill(ada, signal.SIGKILL)
    eventually(lambda: running.children()["ada"]["restarts"] > 0, timeout_s=60, what="the restart")
    for body in (b"{", json.dumps({"messages": [{"role": "user", "content": PROMPT}]}).encode()):
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        request = urllib.request.Request(f"{running.url}/v1/chat/completions", data=body, headers=headers)
        with pytest.raises(urllib.request.HTTPError) as bad:
            urllib.request.urlopen(request, timeout=30)
        texts.append(bad.value.read().decode())
    return texts


def _lose_the_login_of_grace(running: Fleet, profiles: Path) -> None:
    """Give grace a profile of a session that there is not; those of the site are other tests' too."""
    file = profiles / "grace.json"
    state = json.loads(file.read_text())
    for cookie in state["cookies"]:
        cookie["value"] = "canary-no-session"
    file.write_text(json.dumps(state))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for(grace="FAILED")


def _pieces_of_the_image() -> set[str]:
    """Return what of the image could appear in a text: the start of its base64, and its mark."""
    return {IMAGE["image_url"]["url"].partition(",")[2][:40], "canary-image-40ce"}


def _metrics(running: Fleet) -> str:
    request = urllib.request.Request(f"{running.url}/metrics", headers={"authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        text: str = response.read().decode()
    return text


def _secrets(profiles: Path) -> set[str]:
    """Return the values of all cookies, localStorage items and secrets."""
    states = [{"cookies": [], "origins": []} | json.loads(path.read_text()) for path in profiles.glob("*.json")]
    cookies = {cookie["value"] for state in states for cookie in state["cookies"]}
    stored = {item["value"] for state in states for origin in state["origins"] for item in origin["localStorage"]}
    filled = {value for state in states for value in state.get("secrets", {}).values()}
    return filled | {value for value in cookies | stored if len(value) > 8}
