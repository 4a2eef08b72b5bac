"""Fetch Camoufox while an image is built: the browser, and the model it draws browser identities from.

Usage: camoufox_parts.py FOLDER, run by the Python that has the camoufox package, with the environment of the
Dockerfile's CAMOUFOX_* arguments. Nothing is unpacked before its SHA-256 is right. The model's address, checksum and
place are those of the camoufox package, which would fetch it at the first start otherwise.
"""
# ruff: noqa: INP001, T201 - a program of the image's build: not part of a package, and it says what it does

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
    """Fetch both. Ends the build with one line when an argument or a checksum is wrong."""
    url, checksum = browser_source()
    print(f"camoufox: {url}")
    unpack(fetched(url, checksum, "CAMOUFOX_SHA256"), folder)
    program = folder / "camoufox-bin"
    if not os.access(program, os.X_OK):
        sys.exit(f"CAMOUFOX_URL: {url} is not a Camoufox for Linux: it has no program camoufox-bin")
    install_model()


def browser_source() -> tuple[str, str]:
    """The archive's address and SHA-256, for the machine that this is built for."""
    machine = platform.machine()
    if machine not in MACHINES:
        sys.exit(f"there is no Camoufox for {machine}; choose another engine: BROWSER_ENGINE=chromium or firefox")
    name, suffix = MACHINES[machine]
    version = os.environ["CAMOUFOX_VERSION"]
    url = os.environ.get("CAMOUFOX_URL") or f"{RELEASES}/v{version}/camoufox-{version}-lin.{name}.zip"
    return url, os.environ.get("CAMOUFOX_SHA256") or os.environ[f"CAMOUFOX_SHA256_{suffix}"]


def install_model() -> None:
    """Put the model where the fpgen package reads it, dated and stamped so that it is never fetched again."""
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
    """The archive, from the build's cache if it is there; refused unless its SHA-256 is right."""
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
    """Unpack for all to read and run, as Camoufox itself does it: its archives do not tell programs apart."""
    folder.mkdir(parents=True, exist_ok=True)
    with ZipFile(archive) as zipped:
        for member in zipped.infolist():
            Path(zipped.extract(member, folder)).chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
