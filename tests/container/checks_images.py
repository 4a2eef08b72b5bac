"""Checks of the images themselves: content, size, metadata, SBOM."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import re
import socketserver
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

import pytest

from tests.container.checks import check
from tests.container.image_build import KINDS, LARGE_BYTES, MB, base_bytes, build, kind_of, layers
from tests.container.podman import ROOT, PodmanFailed, podman
from tests.container.services import CHROMIUM, FIREFOX, SINGLE, Services

AIM_BYTES = 250 * MB
NOT_IN_THE_IMAGE = ("gcc", "cc", "make", "pip", "pip3", "uv", "poetry", "git", "curl", "wget")
CAMOUFOX_ARCHIVE = {"camoufox-bin": "#!/bin/sh\necho a stand-in\n", "application.ini": "[App]\nVersion=156.0.1\n"}


@check("hadolint and shellcheck are clean; Kubernetes base and overlays are valid (scripts/container-lint)")
def lint(_: Services) -> str:
    done = subprocess.run(["scripts/container-lint"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@check("the production image builds with Firefox")
def firefox(_: Services) -> None:
    build("docker/Dockerfile.prod", FIREFOX, arguments=["BROWSER_ENGINE=firefox"])


@check("the single-child image builds")
def single(_: Services) -> None:
    build("docker/Dockerfile", SINGLE, arguments=["BROWSER_ENGINE=chromium"])


@check("labels, user, port, signal, entry point and health check are as documented")
def configuration(_: Services) -> None:
    config = json.loads(podman("image", "inspect", CHROMIUM))[0]["Config"]
    labels = config["Labels"]
    for name in ("title", "description", "licenses", "version", "revision", "created", "base.name"):
        assert f"org.opencontainers.image.{name}" in labels, name
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["User"] == "10001:10001"
    assert set(config["ExposedPorts"]) == {"2048/tcp"}
    assert config["StopSignal"] in {"15", "SIGTERM"}
    assert config["Entrypoint"] == ["tini", "--"]
    assert config["Cmd"] == ["./docker/entrypoint.prod.sh"]
    health = json.loads(podman("image", "inspect", CHROMIUM))[0]["Healthcheck"]
    assert health["Test"] == ["CMD", "python", "-I", "/app/docker/healthcheck.py"]


@check("the image has no compiler, installer, cache or test, and nothing that its user can write to")
def contents(_: Services) -> None:
    empty = "ls -A /var/lib/apt/lists /tmp /app/auth_profiles; ls -d /root/.c*"
    look = f"for name in $NAMES; do command -v $name; done; {empty}"
    names = f"--env=NAMES={' '.join(NOT_IN_THE_IMAGE)}"
    found = podman("run", "--rm", names, "--user=0", CHROMIUM, "sh", "-c", look, check=False)
    listed = [line for line in found.splitlines() if line and not line.endswith(":")]
    assert not listed, listed
    assert podman("run", "--rm", CHROMIUM, "sh", "-c", "ls /app").split() == [
        *("LICENSE", "__pycache__", "api_utils", "auth_profiles", "browser", "contract", "coordinator", "docker"),
        *("launch_camoufox.py", "sites"),
    ]
    writable = "find / -xdev -not -path '/proc/*' -writable -not -type l 2>/dev/null"
    places = podman("run", "--rm", "--read-only", CHROMIUM, "sh", "-c", writable, check=False).split()
    own = ("/tmp", "/var/tmp", "/run", "/dev", "/var/cache/tabfleet", "/var/lib/tabfleet")
    assert [place for place in places if not place.startswith(own)] == [], places


@check("AWS_CLI=1 includes a working aws; tini, ps, pkill and setpriv are installed")
def tools(_: Services) -> str:
    out = podman("run", "--rm", CHROMIUM, "sh", "-c", "aws --version && command -v tini ps pkill setpriv")
    assert out.startswith("aws-cli/"), out
    return out.splitlines()[0]


@check("each layer over 30 MB is known, and ours add 250 MB or less")
def sizes(_: Services) -> str:
    lines = [f"{base_bytes() / MB:7.1f} MB  base image"]
    ours = 0
    for layer in layers(CHROMIUM):
        kind = kind_of(layer)
        assert kind or layer.size_bytes <= LARGE_BYTES, f"{layer.size_bytes / MB:.0f} MB for: {layer.instruction}"
        ours += layer.size_bytes if kind is None or kind.ours else 0
        words = f"{kind.name}: {kind.reason}" if kind else re.sub(r"\s+", " ", layer.instruction)[:70]
        lines.append(f"{layer.size_bytes / MB:7.1f} MB  {words}")
    lines.append(f"{ours / MB:7.1f} MB  added to base, browser and AWS CLI (limit: {AIM_BYTES / MB:.0f})")
    assert {kind.name for kind in KINDS} == {kind.name for kind in map(kind_of, layers(CHROMIUM)) if kind}
    assert ours <= AIM_BYTES, "\n".join(lines)
    return "\n".join(lines)


@check("the SBOM covers every Debian and every Python package, and is valid CycloneDX")
def sbom(_: Services) -> str:
    done = subprocess.run(["scripts/container-sbom", CHROMIUM], cwd=ROOT, capture_output=True, text=True, check=True)
    purls = [component["purl"] for component in json.loads(done.stdout)["components"]]
    debian = podman("run", "--rm", CHROMIUM, "dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n").splitlines()
    installed = [line.split()[0] for line in debian if line.endswith(" installed")]
    assert sorted(name(purl) for purl in purls if purl.startswith("pkg:deb/")) == sorted(installed)
    find = "find / -xdev -name METADATA -path '*.dist-info/*' 2>/dev/null | wc -l"
    count = int(podman("run", "--rm", CHROMIUM, "sh", "-c", find))
    python = {name(purl) for purl in purls if purl.startswith("pkg:pypi/")}
    assert sum(purl.startswith("pkg:pypi/") for purl in purls) == count
    assert {"playwright", "starlette", "awscli"} <= python
    return f"{len(installed)} Debian packages, {count} Python packages, {len(purls) - len(installed) - count} others"


def name(purl: str) -> str:
    """Return the package name in a purl."""
    return unquote(purl.partition("@")[0].rpartition("/")[2])


@check("Camoufox's build step downloads from a mirror, rejects a wrong checksum, and unpacks the right archive")
def camoufox(_: Services) -> None:
    browser, model = archive(CAMOUFOX_ARCHIVE), archive(dict.fromkeys(model_files(), "stand-in"))
    with served({"/camoufox.zip": browser, "/model.zip": model}) as url:
        arguments = [
            "BROWSER_ENGINE=camoufox",
            "AWS_CLI=0",
            f"CAMOUFOX_URL={url}/camoufox.zip",
            f"CAMOUFOX_MODEL_URL={url}/model.zip",
            f"CAMOUFOX_MODEL_SHA256={sha256(model)}",
        ]
        with pytest.raises(PodmanFailed, match=f"has the SHA-256 {sha256(browser)}, not "):
            build("docker/Dockerfile.prod", "tabfleet:refused", arguments=arguments, target="builder")
        build(
            "docker/Dockerfile.prod", "tabfleet:camoufox", arguments=[*arguments, f"CAMOUFOX_SHA256={sha256(browser)}"]
        )
    done = podman("run", "--rm", "tabfleet:camoufox", "sh", "-c", "$CAMOUFOX_EXECUTABLE_PATH; command -v aws; true")
    assert done == "a stand-in\n", done
    stamp = "from camoufox.fpgen_model import *; print((fpgen_data_dir() / STAMP).read_text().strip() == PIN['sha256'])"
    assert podman("run", "--rm", "tabfleet:camoufox", "python", "-c", stamp).strip() == "True"
    podman("rmi", "tabfleet:camoufox")


def model_files() -> list[str]:
    """Return the file names of the identity model, from the camoufox package of this environment."""
    from camoufox.fpgen_model import PIN

    names: list[str] = PIN["files"]
    return names


def archive(files: dict[str, str]) -> bytes:
    """Return a ZIP archive whose files have no modes, like Camoufox's own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        for path, content in files.items():
            zipped.writestr(zipfile.ZipInfo(path), content)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[str]:
    """Serve these files on loopback while the context lasts; yield the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Suppress the access log."""

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@check("every locked wheel and Debian package exists for arm64 (scripts/container-arm64)")
def arm64(_: Services) -> str:
    done = subprocess.run(["scripts/container-arm64"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
