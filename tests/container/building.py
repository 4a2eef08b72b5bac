"""Building the images, and what is in them."""

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
    """Build as an operator does, but from the base image that is here; this machine's authorities are trusted."""
    given = [f"--build-arg={argument}" for argument in arguments]
    more = [f"--target={target}"] if target else []
    trusted = f"--volume={AUTHORITIES}:{AUTHORITIES}:ro"
    here = ("--pull=never", "--network=host", "--format=docker", trusted)
    command = ["build", "--quiet", *here, *given, *more, f"--file={ROOT}/{dockerfile}", f"--tag={tag}", str(ROOT)]
    podman(*command, timeout_s=BUILD_TIMEOUT_S)


@dataclass(frozen=True)
class Layer:
    """One layer: the instruction that made it and its size."""

    instruction: str
    size_bytes: int


@dataclass(frozen=True)
class Kind:
    """A layer that is recognised by a word of its instruction, what it is, and whether it counts as ours."""

    mark: str
    name: str
    reason: str
    ours: bool


KINDS = (
    Kind("packages=", "browser", "the browser with its libraries and fonts, as Debian packages them", ours=False),
    Kind("in /opt/camoufox", "Camoufox", "the browser of that engine; empty for the others", ours=False),
    Kind("in /opt/aws", "AWS CLI", "only with AWS_CLI=1; a Python environment of its own", ours=False),
    Kind("in /app/.venv", "Python packages", "Playwright's driver brings a Node of 124 MB, botocore 31 MB", ours=True),
)


def layers(image: str) -> list[Layer]:
    """The layers above the base image, lowest first, empty ones left out."""
    below = len(_history(BASE))
    found = [Layer(instruction_of(entry), int(entry["size"])) for entry in reversed(_history(image))]
    return [layer for layer in found[below:] if layer.size_bytes]


def _history(image: str) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = json.loads(podman("history", "--format=json", "--no-trunc", image))
    return entries


def instruction_of(entry: dict[str, str]) -> str:
    """The instruction without the shell that runs it."""
    return entry["CreatedBy"].replace("/bin/sh -c ", "").replace("#(nop) ", "").strip()


def kind_of(layer: Layer) -> Kind | None:
    """What is known of the layer."""
    return next((kind for kind in KINDS if kind.mark in layer.instruction), None)


def base_bytes() -> int:
    """The size of the base image."""
    return int(json.loads(podman("image", "inspect", BASE))[0]["Size"])
