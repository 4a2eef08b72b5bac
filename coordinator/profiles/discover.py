"""Finding the profiles of a folder: which may be used, and why the others may not."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from contract.errors import BadProfile, reasons_only
from contract.storage_state.document import parse_document
from contract.storage_state.profile_file import read_profile_file
from contract.storage_state.summary import NO_LOGIN, ProfileSummary
from coordinator.errors import ProfileBackendError
from coordinator.profiles.model import Discovery, Examined, Profile, Rejected

CHECKS_VERSION: Final = 4
"""Raise it by hand with every change of what the checks find in the same bytes: caches keep what was found."""
MOST_REASONS: Final = 5
"""So many bad profiles are named in an error line; the log has all."""
SUFFIX: Final = ".json"
MAX_NAME_BYTES: Final = 128
_PUNCTUATION: Final = "_.@+=~,()-"
_PLAIN_NAME: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9 {re.escape(_PUNCTUATION)}]{{0,{MAX_NAME_BYTES - 6}}}\.json")
"""Names that break no rule of `check_name`; nearly all of them, in a tenth of the time."""


def discover_profiles(folder: Path, *, now: float | None = None) -> Discovery:
    """Read and check every profile (``*.json``) in a folder, which is not modified.

    Hidden files, folders and other files are passed over. Links are followed inside the folder only.
    `now` is in Unix seconds. Raises ProfileBackendError when the folder itself cannot be read.
    """
    return select_profiles(examine_folder(folder), time.time() if now is None else now)


def examine_folder(folder: Path) -> list[Examined]:
    """Check every profile in the folder, in the order of names. Raises ProfileBackendError."""
    root = resolved(folder)
    paths = [folder / name for name in profile_names(folder)]
    return [examine(path.name, path, partial(read_profile_file, path, within=root)) for path in paths]


def examine(file_name: str, path: Path, read: Callable[[], bytes]) -> Examined:
    """Check the bytes that `read` gives; whatever is wrong with them becomes the reason, and nothing is raised."""
    try:
        with reasons_only():
            check_name(file_name)
            data = read()
            state = ProfileSummary.of(parse_document(data))
    except BadProfile as error:
        return Examined(file_name, path, reason=error.reason)
    return Examined(file_name, path, hashlib.sha256(data).hexdigest(), state)


def select_profiles(examined: Iterable[Examined], now: float) -> Discovery:
    """Leave out what is invalid, expired, or the login of an earlier one."""
    accepted: list[Profile] = []
    by_login: dict[str, Profile] = {}
    rejected: list[Rejected] = []
    for item in examined:
        try:
            with reasons_only():  # of a summary that a cache has kept, too
                profile = _accept(item, by_login, now)
        except BadProfile as error:
            rejected.append(Rejected(printable(item.file_name), error.reason))
        else:
            accepted.append(profile)
            if profile.fingerprint != NO_LOGIN:
                by_login[profile.fingerprint] = profile
    return Discovery(tuple(accepted), tuple(rejected))


def _accept(item: Examined, by_login: Mapping[str, Profile], now: float) -> Profile:
    """Return the profile beside those accepted before it. Raises BadProfile if it is left out.

    One without a login is accepted: that the site needs one is known to the child alone, by the site file.
    """
    if item.state is None:
        raise BadProfile(item.reason)
    item.state.check_alive(now)
    name, fingerprint = item.file_name.removesuffix(SUFFIX), item.state.fingerprint
    # Sites end a login that two browsers use.
    earlier = by_login.get(fingerprint)
    if earlier is None:
        return Profile(name, item.path, item.sha256, fingerprint, item.state.expires_at(now))
    if earlier.sha256 == item.sha256:
        raise BadProfile(f"is the same file as {earlier.name}.json")
    raise BadProfile(f"holds the same login as {earlier.name}.json; one login is used by one browser at a time")


def no_profiles_message(sentence: str, discovery: Discovery) -> str:
    """Return the line that says why there is nothing to start: the sentence and the first few reasons."""
    if not discovery.rejected:
        return sentence
    named = [f"{item.name} {item.reason}" for item in discovery.rejected[:MOST_REASONS]]
    more = len(discovery.rejected) - len(named)
    return f"{sentence}: " + "; ".join(named) + (f"; and {more} more" if more else "")


def check_name(file_name: str) -> None:
    """Raise BadProfile unless a child, a log and a folder can bear the name."""
    if _PLAIN_NAME.fullmatch(file_name):
        return
    if not file_name.endswith(SUFFIX):
        raise BadProfile("has a name that does not end in .json, in lower case")
    if "/" in file_name or "\\" in file_name or file_name.startswith(".."):
        raise BadProfile("has a name that would lead out of the folder")
    if len(os.fsencode(file_name)) > MAX_NAME_BYTES:
        raise BadProfile(f"has a name of more than {MAX_NAME_BYTES} bytes")
    if unicodedata.normalize("NFC", file_name) != file_name:
        raise BadProfile("has a name in decomposed Unicode, which looks like another one; write it in NFC")
    name = file_name.removesuffix(SUFFIX)
    # A first character that options, hidden files and shells know is none; marks (Mn, Mc) are parts of letters.
    if not (name[:1].isalnum() or name[:1] == "_") or not all(
        char.isalnum() or char in f" {_PUNCTUATION}" or unicodedata.category(char) in {"Mn", "Mc"} for char in name
    ):
        raise BadProfile(f"has a name with other characters than letters, digits, spaces and {' '.join(_PUNCTUATION)}")


def printable(name: str) -> str:
    """Return a name from outside as it fits a log line and a terminal."""
    return name if name.isprintable() else ascii(name)[1:-1]


def profile_names(folder: Path) -> list[str]:
    """Return the names in the folder that are meant as profiles. Raises ProfileBackendError."""
    try:
        return sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.name.lower().endswith(SUFFIX) and not entry.name.startswith(".")
        )
    except OSError as error:
        raise ProfileBackendError(_folder_trouble(folder, error)) from None


def resolved(folder: Path) -> Path:
    """Return the folder itself, whatever links lead to it. Raises ProfileBackendError."""
    try:
        # Path.resolve makes a RuntimeError of ELOOP up to Python 3.12; this is an OSError everywhere.
        return Path(os.path.realpath(folder, strict=True))
    except OSError as error:
        raise ProfileBackendError(_folder_trouble(folder, error)) from None


def _folder_trouble(folder: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return f"the profile folder {folder} does not exist"
        case errno.ENOTDIR:
            return f"the profile folder {folder} is not a folder"
        case errno.EACCES:
            return f"the profile folder {folder} cannot be read by uid {os.geteuid()}; check its owner and mode"
        case errno.ELOOP:
            return f"the profile folder {folder} is a link that leads to itself"
    return f"the profile folder {folder} cannot be read: {error.strerror}"
