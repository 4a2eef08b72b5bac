"""What is kept of a check for the person who looks into it: only for their eyes, it may hold what the page shows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.async_api import Error

from browser.check.context import CheckContext
from contract.files import write_private

PICTURE_TIMEOUT_S = 10.0


def report_folder(wanted: Path | None) -> Path:
    """Return the folder wanted, made if need be, or a new one of its own; mode 0700. Raises OSError."""
    if wanted is None:
        return Path(tempfile.mkdtemp(prefix="tabfleet-check-"))
    wanted.mkdir(mode=0o700, parents=True, exist_ok=True)
    return wanted


async def save_report(context: CheckContext, folder: Path) -> list[str]:
    """Write a screenshot, the events and the requests, as far as there are any; 0600. Returns the files' names."""
    files: dict[str, bytes] = {"events.jsonl": context.log.as_jsonl()}
    if context.traffic:
        files["requests.jsonl"] = context.traffic.as_jsonl()
    if context.page and (picture := await _picture(context)):
        files["screenshot.png"] = picture
    kept = {name: data for name, data in files.items() if data}
    for name, data in kept.items():
        write_private(folder / name, data)
    return sorted(kept)


async def _picture(context: CheckContext) -> bytes | None:
    try:
        return await context.tab.screenshot(PICTURE_TIMEOUT_S)
    except (Error, TimeoutError):
        return None
