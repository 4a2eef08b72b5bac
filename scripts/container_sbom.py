"""Print the packages of an image as CycloneDX 1.6 JSON. Runs inside the image: `scripts/container-sbom IMAGE`.

Covers Debian packages (dpkg's status), every Python environment (*.dist-info), and Python itself, Playwright's Node and
Camoufox. Format: https://cyclonedx.org/docs/1.6/json/; purls: package-url/purl-spec.
"""
# ruff: noqa: INP001 - a standalone program

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]
STATUS = Path("/var/lib/dpkg/status")
PYTHON_PLACES = ("/app/.venv", "/opt", "/usr/local/lib", "/usr/lib/python3")
CAMOUFOX = Path("/opt/camoufox/application.ini")


def component(kind: str, name: str, version: str, purl: str, **more: Any) -> Component:
    """Return one entry of `components`."""
    return {"type": kind, "name": name, "version": version, "purl": purl, "bom-ref": purl, **more}


def debian() -> Iterator[Component]:
    """Yield every installed Debian package."""
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    distribution = f"debian-{release.get('VERSION_ID', '').strip(chr(34))}"
    for paragraph in STATUS.read_text(encoding="utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version, arch = fields["Package"], fields["Version"], fields["Architecture"]
            purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={arch}&distro={distribution}"
            yield component("library", name, version, purl)


def python_packages() -> Iterator[Component]:
    """Yield every distribution of every Python environment; one in two environments is two components."""
    for place in map(Path, PYTHON_PLACES):
        for folder in sorted(place.rglob("*.dist-info")):
            found = PathDistribution(folder)
            name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
            entry = component("library", name, found.version, f"pkg:pypi/{name}@{found.version}")
            yield {**entry, "bom-ref": f"{entry['purl']}#{folder.parent}", **licence(found)}


def licence(found: PathDistribution) -> Component:
    """Return `licenses` if the metadata has a licence expression, else nothing."""
    expression = found.metadata.json.get("license_expression")
    return {"licenses": [{"expression": expression}]} if expression else {}


def others() -> Iterator[Component]:
    """Yield what no package manager has installed."""
    version = platform.python_version()
    yield component("platform", "python", version, f"pkg:generic/python@{version}")
    for node in Path("/app/.venv").rglob("playwright/driver/node"):
        output = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        version = output.strip().lstrip("v")
        yield component("platform", "node", version, f"pkg:generic/node@{version}")
    if CAMOUFOX.is_file():
        found = re.search(r"^Version=(\S+)", CAMOUFOX.read_text(encoding="utf-8"), re.MULTILINE)
        version = found[1] if found else "unknown"
        yield component("application", "camoufox", version, f"pkg:generic/camoufox@{version}")


def main(image: str) -> None:
    """Print the document."""
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": {"type": "container", "name": image, "bom-ref": "image"},
        },
        "components": [*debian(), *python_packages(), *others()],
    }
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
