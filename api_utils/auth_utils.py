"""The API keys of this process: which file counts, and whether a key is accepted.

Key files, their form and the comparison are `contract.keys`, which both programs share.
"""

from __future__ import annotations

import os
from pathlib import Path

from contract.keys import DEFAULT_KEY_FILE, FollowedKeys, KeyFileError, KeyStore, default_key_file, presented_key

__all__ = [
    "DEFAULT_KEY_FILE",
    "FollowedKeys",
    "KeyFileError",
    "KeyStore",
    "default_key_file",
    "initialize_keys",
    "key_file_path",
    "load_api_keys",
    "presented_key",
    "verify_api_key",
]


def key_file_path() -> Path | None:
    """Return the key file of this process: ``KEY_FILE_PATH``, else the default one if it exists, else None.

    Raises KeyFileError as `default_key_file`.
    """
    given = os.environ.get("KEY_FILE_PATH", "").strip()
    return Path(given) if given else default_key_file()


def load_api_keys() -> KeyStore:
    """Read the keys of this process anew. Raises KeyFileError; no key file at all means no keys."""
    path = key_file_path()
    return KeyStore() if path is None else KeyStore.from_file(path)


_current = FollowedKeys(None)


def initialize_keys() -> FollowedKeys:
    """Load this process's keys, and make them and what replaces them the ones that `verify_api_key` checks.

    Raises KeyFileError, and then keeps those it had.
    """
    global _current  # noqa: PLW0603 - the fixed names verify_api_key() and initialize_keys() imply one store a process
    _current = FollowedKeys(key_file_path())
    return _current


def verify_api_key(presented: str) -> bool:
    """Return whether the key is one of the file that `initialize_keys` read; any key passes where none are set."""
    keys = _current.current()
    return not keys or keys.verify(presented)
