"""Build the images, and list their layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.container.podman import ROOT, podman

BASE = "localhost/python:3.13-slim-bookworm"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
BUILD_TIMEOUT_S = 590.0
MB = 1_000_000
LARGE_BYTES = 30 * MB


def build(dockerfile: str, tag: str, *, arguments: Sequence[str] = (), target: str = "") -> None:
    """Build an image as an operator does, but from the local base image, and with this machine's CA certificates."""
    given = [f"--build-arg={argument}" for argument in arguments]
    more = [f"--target={target}"] if target else []
    trusted = f"--volume={AUTHORITIES}:{AUTHORITIES}:ro"
    here = ("--pull=never", "--network=host", "--format=docker", trusted)
    command = ["build", "--quiet", *here, *given, *more, f"--file={ROOT}/{dockerfile}", f"--tag={tag}", str(ROOT)]
    podman(*command, timeout_s=BUILD_TIMEOUT_S)


@dataclass(frozen=True)
class Layer:
    """One layer: the instruction that created it, and its size."""

    instruction: str
    size_bytes: int


@dataclass(frozen=True)
class LayerKind:
    """A known layer: `mark` occurs in its instruction; `ours` tells whether it counts towards the size limit."""

    mark: str
    name: str
    reason: str
    ours: bool


KINDS = (
    LayerKind("packages=", "browser", "the browser with its libraries and fonts, as Debian packages them", ours=False),
    LayerKind("in /opt/camoufox", "Camoufox", "the browser of that engine; empty for the others", ours=False),
    LayerKind("in /opt/aws", "AWS CLI", "only with AWS_CLI=1; a Python environment of its own", ours=False),
    LayerKind(
        "in /app/.venv",
        "Python packages",
        "Playwright's driver includes Node with 124 MB, botocore has 31 MB",
        ours=True,
    ),
)


def layers(image: str) -> list[Layer]:
    """Return the layers above the base image, lowest first, without empty ones."""
    below = len(_history(BASE))
    found = [Layer(instruction_of(entry), int(entry["size"])) for entry in reversed(_history(image))]
    return [layer for layer in found[below:] if layer.size_bytes]


def _history(image: str) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = json.loads(podman("history", "--format=json", "--no-trunc", image))
    return entries


def instruction_of(entry: dict[str, str]) -> str:
    """Return the instruction of a history entry without the shell prefix."""
    return entry["CreatedBy"].replace("/bin/sh -c ", "").replace("#(nop) ", "").strip()


def kind_of(layer: Layer) -> LayerKind | None:
    """Return the kind of a layer, or None if it is unknown."""
    return next((kind for kind in KINDS if kind.mark in layer.instruction), None)


def base_bytes() -> int:
    """Return the size of the base image."""
    return int(json.loads(podman("image", "inspect", BASE))[0]["Size"])
