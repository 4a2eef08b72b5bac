"""What the shipped deployments set are settings that the coordinator takes together; `tests/container` renders them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from coordinator.flags import load_settings, table

ROOT = Path(__file__).resolve().parent.parent
KUBERNETES = ROOT / "deploy" / "kubernetes"
READ_WHEN_STARTED = ("CHAT_SITE", "CLAIMS_CA_FILE", "CLAIMS_CERT_FILE", "CLAIMS_KEY_FILE", "SESSION_KEY_FILE")
"""Files that are mounted."""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for option in table():
        monkeypatch.delenv(option.variable, raising=False)


def patches(overlay: str, kind: str) -> list[dict[str, Any]]:
    """Return the operations of an overlay on its objects of this kind."""
    text = (KUBERNETES / "overlays" / overlay / "kustomization.yaml").read_text()
    of_kind = [patch["patch"] for patch in yaml.safe_load(text)["patches"] if patch["target"]["kind"] == kind]
    return [operation for patch in of_kind for operation in yaml.safe_load(patch)]


def variables(*overlays: str) -> dict[str, str]:
    """Return what the ConfigMap sets in these overlays, each on top of the one before."""
    found: dict[str, str] = yaml.safe_load((KUBERNETES / "base" / "configmap.yaml").read_text())["data"]
    for overlay in overlays:
        for operation in patches(overlay, "ConfigMap"):
            found[operation["path"].removeprefix("/data/")] = operation["value"]
    return found


def environment(workload: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what a patch sets besides."""
    (found,) = [operation["value"] for operation in workload if operation["path"].endswith("/containers/0/env")]
    assert isinstance(found, list)
    return found


def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str]) -> Any:
    for name, value in given.items():
        if name in READ_WHEN_STARTED and value.startswith("/"):
            (tmp_path / name).touch()
            monkeypatch.setenv(name, str(tmp_path / name))
        else:
            monkeypatch.setenv(name, value)
    return load_settings()


def test_the_overlay_of_fixed_shares_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (shard,) = environment(patches("cells", "Deployment"))
    monkeypatch.setattr("socket.gethostname", lambda: "tabfleet-2")
    settings = load(monkeypatch, tmp_path, {**variables("s3"), shard["name"]: shard["value"]})
    assert (str(settings.own_shard), settings.own_cell) == ("2/3", "tabfleet-2")


def test_the_overlay_of_claims_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (cell,) = environment(patches("claims", "StatefulSet"))
    assert cell == {"name": "CELL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    settings = load(monkeypatch, tmp_path, {**variables("s3", "cells", "claims"), "CELL": "tabfleet-2"})
    assert (settings.claims, settings.own_shard, settings.own_cell) == ("etcd", None, "tabfleet-2")
    assert settings.claims_url.count("https://") == 3
    assert settings.max_children > 0


def test_every_variable_of_the_overlays_is_a_setting() -> None:
    known = {option.variable for option in table()}
    assert variables("s3", "local", "cells", "claims").keys() <= known
