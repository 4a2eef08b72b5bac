"""Run a command of ``python -m coordinator.profiles`` as an unprivileged user, after a scene is set as root.

Everything is imported before the user changes, so that checkout and environment may lie where only root
reads. Usage: python -m tests.coordinator.profiles.support.as_nobody SCENE FOLDER ARGUMENTS...
"""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401 - codecs are loaded at their first use, which may be too late
import os
import sys
from pathlib import Path

import coordinator.profiles.__main__ as program

NOBODY = 65534
MALLORY = 1234


def link_in_place_of_the_cache(folder: Path) -> None:
    _by_mallory(folder / "auth_profiles", _open(folder / "loot", 0o777))


def link_on_the_way_to_the_cache(folder: Path) -> None:
    _by_mallory(folder / "var", _open(folder / "loot", 0o777))


def folder_of_somebody_else(folder: Path) -> None:
    os.chown(_open(folder / "auth_profiles", 0o777), MALLORY, MALLORY)


def folder_of_root(folder: Path) -> None:
    _open(folder / "auth_profiles", 0o777)


def folder_that_cannot_be_entered(folder: Path) -> None:
    _open(folder / "closed", 0o700)


def folder_that_cannot_be_written(folder: Path) -> None:
    _open(folder / "readonly", 0o755)


def nothing(folder: Path) -> None:
    """The folder is as the test has left it."""


def _open(folder: Path, mode: int) -> Path:
    """Make a folder with this very mode, whatever the umask."""
    folder.mkdir()
    folder.chmod(mode)
    return folder


def _by_mallory(link: Path, target: Path) -> None:
    link.symlink_to(target)
    os.chown(link, MALLORY, MALLORY, follow_symlinks=False)


SCENES = {
    scene.__name__: scene
    for scene in (
        link_in_place_of_the_cache,
        link_on_the_way_to_the_cache,
        folder_of_somebody_else,
        folder_of_root,
        folder_that_cannot_be_entered,
        folder_that_cannot_be_written,
        nothing,
    )
}


def main() -> int:
    scene, folder, *arguments = sys.argv[1:]
    SCENES[scene](Path(folder))
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    return program.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
