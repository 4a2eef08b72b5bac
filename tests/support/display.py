"""A virtual display, and a person before it: real key presses on real windows, by Xvfb and xdotool."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

SEES_TIMEOUT_S = 40.0


@dataclass(frozen=True)
class Person:
    """Sits before one display."""

    display: str

    async def sees(self, title: str) -> None:
        """Wait for a window with that in its title, and turn to it."""
        async with asyncio.timeout(SEES_TIMEOUT_S):
            while not (found := await self._do("search", "--onlyvisible", "--name", title)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await self._do("windowfocus", "--sync", found.split()[0])

    async def types(self, text: str) -> None:
        await self._do("type", "--delay", "10", text)

    async def presses(self, *keys: str) -> None:
        await self._do("key", *keys)

    async def _do(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *("xdotool", *command),
            env={**os.environ, "DISPLAY": self.display},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        out, _ = await process.communicate()
        return out.decode()


@asynccontextmanager
async def display() -> AsyncIterator[Person]:
    """Start a display of its own, with a number that is free."""
    ready, told = os.pipe()
    server = await asyncio.create_subprocess_exec(
        *("Xvfb", "-displayfd", str(told), "-screen", "0", "1200x900x24", "-nolisten", "tcp", "-noreset"),
        pass_fds=[told],
        stderr=asyncio.subprocess.DEVNULL,
    )
    os.close(told)
    try:
        number = await asyncio.to_thread(os.read, ready, 16)
        yield Person(f":{int(number)}")
    finally:
        os.close(ready)
        server.terminate()
        await server.wait()
