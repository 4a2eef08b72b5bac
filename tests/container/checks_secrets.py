"""Checks that secrets appear in no output."""

from __future__ import annotations

import json
import re
import uuid

from tests.container.checks import check
from tests.container.podman import podman
from tests.container.services import Services


@check("no secret in logs, inspect or .env.runtime; no cloud credentials in a child's environment")
def nowhere(services: Services) -> None:
    secret = services.folder / "secret"
    secret.write_text(f"{services.reader_secret}\n", encoding="utf-8")
    secret.chmod(0o444)
    environment = {**services.reader_environment(), "AWS_SECRET_ACCESS_KEY_FILE": "/run/secret", "LOG_LEVEL": "debug"}
    del environment["AWS_SECRET_ACCESS_KEY"]
    prompt = f"canary-{uuid.uuid4()}"
    with services.fleet(environment=environment, options=[f"--volume={secret}:/run/secret:ro"]) as fleet:
        fleet.wait_ready(2)
        answer = fleet.ask(prompt)
        fleet.get("/v1/models", key="sk-a-wrong-key")
        planted = {
            "S3 secret": services.reader_secret,
            "API key": services.key,
            "wrong API key": "sk-a-wrong-key",
            "prompt": prompt,
            "answer": answer.partition("token:")[2].split()[0],
            **cookies(fleet.container.exec("sh", "-c", "cat $(find -L /tmp/auth_profiles -name '*.json')")),
        }
        places = {
            "log": fleet.container.logs(),
            "inspect": podman("inspect", fleet.container.name),
            ".env.runtime": fleet.container.exec("cat", "/tmp/.env.runtime"),
            "/ready": json.dumps(fleet.ready()[1]),
            "command lines": fleet.container.exec("ps", "axww", "-o", "args"),
            "children's environments": children_environments(fleet.container.exec),
        }
        found = [(name, where) for where, text in places.items() for name, value in planted.items() if value in text]
        assert not found, found
        assert "PROFILE_BACKEND=s3" in places[".env.runtime"]
        assert "TABFLEET_INSTANCE_ID" in places["children's environments"]


def cookies(profiles: str) -> dict[str, str]:
    """Return every cookie value of the profiles in use."""
    values = re.findall(r'"value": ?"([^"]+)"', profiles)
    assert len(values) >= 2, profiles
    return {f"cookie {number}": value for number, value in enumerate(values)}


def children_environments(execute: object) -> str:
    """Return the environments of all children."""
    assert callable(execute)
    script = "for pid in $(pgrep -f launch_camoufox.py); do tr '\\0' '\\n' </proc/$pid/environ; done"
    return str(execute("sh", "-c", script))
