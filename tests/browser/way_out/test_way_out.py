"""Nothing goes past a login's own proxy, in a network where each packet is seen: see `__main__.py`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.browser.way_out.network import SITE, own_network
from tests.browser.way_out.real_proxies import ALL, PASSWORD

pytestmark = pytest.mark.timeout(900)  # four browsers, one after another
ENGINES = ("chromium", pytest.param("firefox", marks=pytest.mark.firefox))


@pytest.fixture(scope="module", params=ENGINES)
async def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program has seen with each proxy, and with none."""
    folder = Path("/tmp") / f"t-{os.getpid()}-{request.param}"  # other users must get in, and Chromium wants it short
    folder.mkdir()
    command = [*own_network(), sys.executable, "-m", "tests.browser.way_out", request.param, str(folder)]
    program = await asyncio.create_subprocess_exec(*command, *ALL, "none", stdout=asyncio.subprocess.PIPE)
    output, _ = await program.communicate()
    assert program.returncode == 0
    found: dict[str, Any] = json.loads(output)
    return found
