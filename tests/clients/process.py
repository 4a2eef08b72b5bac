"""A client's process, which answers one row after another."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import IO, Any, Final

from tests.clients.catalogue import CLIENTS, NPM, ROOT
from tests.e2e.fleet import chromium, end
from tests.support import DIES_WITH_PARENT

ROW_LIMIT_S: Final = 280.0
"""How long a row may take: for one that hangs. Some clients wait a minute and more between their retries."""

OFFLINE: Final = {
    "AIDER_ANALYTICS_DISABLE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it is fetched when LiteLLM is imported
    "OPENAI_AGENTS_DISABLE_TRACING": "1",  # else each run is reported to OpenAI
}


class ClientProcess:
    """A running client, with its name in the catalogue; what it writes to stderr is in the file `log`."""

    def __init__(self, name: str, process: subprocess.Popen[str], home: Path, log: Path) -> None:
        self.name = name
        self.kind = CLIENTS[name]
        self._process = process
        self._home = home
        self._log = log
        self._answers: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        Thread(target=self._read, args=(process.stdout,), daemon=True).start()

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._answers.put(line)
        self._answers.put("")

    def run(self, scenario: str, **row: Any) -> dict[str, Any]:
        """Send one row and return its answer. Fails if the client ends, or takes more than ROW_LIMIT_S."""
        assert self._process.stdin is not None
        folder = tempfile.mkdtemp(dir=self._home)
        self._process.stdin.write(json.dumps({"scenario": scenario, "folder": folder, **row}) + "\n")
        self._process.stdin.flush()
        try:
            line = self._answers.get(timeout=ROW_LIMIT_S)
        except queue.Empty:
            raise AssertionError(f"no answer within {ROW_LIMIT_S:g} s; {self.log_end()}") from None
        assert line, f"the client ended; {self.log_end()}"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def log_end(self) -> str:
        """Return the end of what the client wrote to stderr."""
        return f"its log ends:\n{self._log.read_text(errors='replace')[-4000:]}"


@contextlib.contextmanager
def client_process(name: str, folder: Path) -> Iterator[ClientProcess]:
    """Run a client with an empty home folder while the context lasts."""
    client = CLIENTS[name]
    home = folder / "home"
    home.mkdir()
    if client.script.endswith(".mjs"):
        # Node looks for packages beside the script.
        for script in (ROOT / "tests/clients/node").glob("*.mjs"):
            shutil.copy(script, NPM)
    log = folder / "stderr.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*DIES_WITH_PARENT, *client.command()],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "LANG": "C.UTF-8",
                "BROWSER_EXECUTABLE": chromium(),  # for the client that is a page
                **OFFLINE,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        yield ClientProcess(name, process, home, log)
    finally:
        end(process)
