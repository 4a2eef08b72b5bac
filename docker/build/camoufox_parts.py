"""Download Camoufox during an image build: the browser, and its model of browser identities.

Usage: camoufox_parts.py FOLDER, run by the Python that has the camoufox package, with the Dockerfile's CAMOUFOX_*
arguments in the environment. Archives are unpacked only if their SHA-256 is right. Address, checksum and location of
the model are those of the camoufox package, which would otherwise download it at the first start.
"""
# ruff: noqa: INP001, T201 - a program of the image build: not part of a package, and it prints its progress

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import urllib.request
from pathlib import Path
from zipfile import ZipFile

from camoufox import fpgen_model

CACHE = Path.home() / ".cache" / "camoufox-parts"
RELEASES = "https://github.com/daijro/camoufox/releases/download"
MACHINES = {"x86_64": ("x86_64", "AMD64"), "aarch64": ("arm64", "ARM64")}
TIMEOUT_S = 60.0


def main(folder: Path) -> None:
    """Download and unpack both. Exit with one line if an argument or a checksum is wrong."""
    url, checksum = browser_source()
    print(f"camoufox: {url}")
    unpack(fetched(url, checksum, "CAMOUFOX_SHA256"), folder)
    program = folder / "camoufox-bin"
    if not os.access(program, os.X_OK):
        sys.exit(f"CAMOUFOX_URL: {url} is not a Camoufox for Linux: it has no program camoufox-bin")
    install_model()


def browser_source() -> tuple[str, str]:
    """Return the address and the SHA-256 of the browser archive for this architecture. Exit if there is none."""
    machine = platform.machine()
    if machine not in MACHINES:
        sys.exit(f"there is no Camoufox for {machine}; choose another engine: BROWSER_ENGINE=chromium or firefox")
    name, suffix = MACHINES[machine]
    version = os.environ["CAMOUFOX_VERSION"]
    url = os.environ.get("CAMOUFOX_URL") or f"{RELEASES}/v{version}/camoufox-{version}-lin.{name}.zip"
    return url, os.environ.get("CAMOUFOX_SHA256") or os.environ[f"CAMOUFOX_SHA256_{suffix}"]


def install_model() -> None:
    """Unpack the model where the fpgen package reads it, with the time stamps that prevent another download."""
    pin = fpgen_model.PIN
    url = os.environ.get("CAMOUFOX_MODEL_URL") or pin["url"]
    checksum = os.environ.get("CAMOUFOX_MODEL_SHA256") or pin["sha256"]
    print(f"camoufox model: {url}")
    folder = fpgen_model.fpgen_data_dir()
    unpack(fetched(url, checksum, "CAMOUFOX_MODEL_SHA256"), folder)
    for name in pin["files"]:
        os.utime(folder / name, (fpgen_model.PINNED_MTIME, fpgen_model.PINNED_MTIME))
    (folder / fpgen_model.STAMP).write_text(f"{pin['sha256']}\n", encoding="utf-8")
    if checksum == pin["sha256"] and not fpgen_model.is_pinned():
        sys.exit(f"{url} does not hold the files that the camoufox package expects")


def fetched(url: str, checksum: str, argument: str) -> Path:
    """Return the archive, from the build cache or downloaded. Exit if its SHA-256 is wrong."""
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / checksum
    if not archive.is_file():
        part = archive.with_suffix(".part")
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, part.open("wb") as file:  # noqa: S310 - the builder's own argument
            shutil.copyfileobj(response, file, 1024 * 1024)
        part.rename(archive)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != checksum:
        archive.unlink()
        sys.exit(f"{url} has the SHA-256 {found}, not {checksum}; if that is the archive you want, set {argument}")
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Unpack with mode 0755, as Camoufox itself does: its archives do not record file modes."""
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(archive) as zipped:
        for member in zipped.infolist():
            Path(zipped.extract(member, folder)).chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
