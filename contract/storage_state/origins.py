"""What an origin of a storage_state must be, so that browsers take its stored values."""

from __future__ import annotations

import re
from typing import Any, Final

from contract.storage_state.reasons import BadProfile, kind

MAX_ORIGIN_CHARACTERS: Final = 5 * 1024 * 1024
"""What Chromium's localStorage holds per origin, names and values together."""
_ADDRESS: Final = re.compile(r"https?://[^/?#\s]+")


def check_origin(where: str, origin: Any) -> None:
    """Raise BadProfile unless a browser can restore it; `where` is its place, such as ``origins[0]``."""
    if not isinstance(origin, dict):
        raise BadProfile(f"{where} is {kind(origin)}, not an object")
    address = origin.get("origin")
    if not isinstance(address, str) or not _ADDRESS.match(address):
        raise BadProfile(f"{where}.origin is not an http or https address")
    stored = origin.get("localStorage")
    if not isinstance(stored, list):
        raise BadProfile(f"{where}.localStorage is not a list")
    for index, item in enumerate(stored):
        _check_item(f"{where}.localStorage[{index}]", item)
    if sum(len(item["name"]) + len(item["value"]) for item in stored) > MAX_ORIGIN_CHARACTERS:
        raise BadProfile(f"{where}.localStorage is larger than the {MAX_ORIGIN_CHARACTERS} characters browsers keep")
    databases = origin.get("indexedDB", [])
    if not isinstance(databases, list):
        raise BadProfile(f"{where}.indexedDB is {kind(databases)}, not a list")
    for index, database in enumerate(databases):
        _check_database(f"{where}.indexedDB[{index}]", database)


def _check_item(where: str, item: Any) -> None:
    if not isinstance(item, dict):
        raise BadProfile(f"{where} is {kind(item)}, not an object")
    if not isinstance(item.get("name"), str):
        raise BadProfile(f"{where} has no name that is a text")
    if not isinstance(item.get("value"), str):
        raise BadProfile(f"{where} has no value that is a text")


def _check_database(where: str, database: Any) -> None:
    if not isinstance(database, dict):
        raise BadProfile(f"{where} is {kind(database)}, not an object")
    if not isinstance(database.get("name"), str):
        raise BadProfile(f"{where} has no name that is a text")
    if type(database.get("version")) is not int:
        raise BadProfile(f"{where} has no version that is a whole number")
    stores = database.get("stores")
    if not isinstance(stores, list) or not all(isinstance(store, dict) for store in stores):
        raise BadProfile(f"{where} has no stores that are a list of objects")
