"""Children as processes on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from coordinator.errors import LaunchError
from coordinator.local import leftovers, processes
from coordinator.local.output import Logs, Output
from coordinator.local.run_folder import delete

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from contract.keys import KeyStore
    from coordinator.local.run_folder import RunFolder
    from coordinator.local.run_root import RunRoot
    from coordinator.supervision.launcher import ChildSpec

log = structlog.get_logger(__name__)

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = (sys.executable, str(REPOSITORY / "launch_camoufox.py"))

_PASSED_ON: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TZ|TERM|NO_COLOR|DISPLAY|XAUTHORITY|WAYLAND_DISPLAY|"
    r"DBUS_SESSION_BUS_ADDRESS|LD_LIBRARY_PATH|VIRTUAL_ENV|SSL_CERT_FILE|SSL_CERT_DIR|"
    r"(LC|XDG|PYTHON|PLAYWRIGHT|FONTCONFIG|MOZ)\w*"
)
_GONE_TIMEOUT_S: Final = 2.0


def inherited_environment() -> dict[str, str]:
    """Return what a child takes over from our environment: no credentials, cloud or otherwise."""
    return {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}


class LocalChild:
    """A `RunningChild` in a session of its own, with its run folder."""

    def __init__(
        self,
        spec: ChildSpec,
        process: asyncio.subprocess.Process,
        folder: RunFolder,
        output: Output,
        *,
        ended: Callable[[int], object],
    ) -> None:
        self._spec = spec
        self._ended = ended
        self._process = process
        self._folder = folder
        self._output = output

    @property
    def name(self) -> str:
        return self._spec.name

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._spec.api_port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        exit_code = await self._process.wait()
        self._ended(self.pid)
        self._output.drain()
        return exit_code

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # Not Process.send_signal: it polls first, and may so take the exit code from who waits for it.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def submitted(self) -> frozenset[str] | None:
        return self._folder.submitted()

    def last_lines(self) -> tuple[str, ...]:
        return self._output.last_lines()

    def memory_bytes(self) -> int | None:
        pids = processes.descendants(self.pid)
        browser = self._folder.browser()
        if browser is not None:
            pids.update(processes.living_members(browser.id))
        return sum(map(processes.proportional_bytes, pids))

    async def clean_up(self) -> int:
        killed = await self._kill_leftovers()
        self._output.close()
        # Deleted in the background: the next start needs the folder, not the space.
        asyncio.get_running_loop().run_in_executor(None, delete, self._folder.empty())
        return killed

    async def _kill_leftovers(self) -> int:
        killed = leftovers.kill(self._folder)
        if not await processes.wait_dead(killed, _GONE_TIMEOUT_S):
            log.error("leftovers_will_not_die", child=self.name, pids=sorted(killed))
        return len(killed)


class LocalLauncher:
    """Starts children here. Use it from the main thread: a child dies with the thread that spawned it.

    `arguments` follow the program on every command line (engine, site, headless); `environment` is what
    the settings pass on to children. With `log_dir` a child's output is appended to NAME.log there, else
    it goes to our stderr line by line. Raises LaunchError if setpriv is missing.
    """

    def __init__(
        self,
        run_root: RunRoot,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log_dir: Path | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._setpriv = shutil.which("setpriv")
        if self._setpriv is None:
            raise LaunchError("setpriv is not installed; children need it (package util-linux).")
        self._root = run_root
        self._program, self._arguments = tuple(program), tuple(arguments)
        self._environment = dict(environment or {})
        self._logs = Logs(log_dir, as_json=self._environment.get("LOG_FORMAT") == "json")
        self._running: dict[int, LocalChild] = {}
        self.spawning = 0
        self.on_reaped: Callable[[], None] = lambda: None

    @property
    def own_pids(self) -> frozenset[int]:
        """Pids that this launcher waits for; nobody else may reap them."""
        return frozenset(self._running)

    def use_keys(self, keys: KeyStore) -> None:
        try:
            self._root.write_keys(keys.to_text())
        except OSError as error:
            raise LaunchError(f"The children cannot be given their API keys: {error.strerror}.") from None

    async def start(self, spec: ChildSpec) -> LocalChild:
        folder = self._root.folder(spec.name)
        output: Output | None = None
        try:
            output = Output(self._logs.writer(spec.name))
            folder.prepare()
            process = await self._spawn(spec, folder, output)
        except OSError as error:
            if output is not None:
                output.close()
            raise LaunchError(f"Child {spec.name!r} cannot be started: {error.strerror}.") from None
        output.begin()
        child = LocalChild(spec, process, folder, output, ended=self._ended)
        self._running[process.pid] = child
        self.on_reaped()
        return child

    def _ended(self, pid: int) -> None:
        del self._running[pid]
        self.on_reaped()

    async def _spawn(self, spec: ChildSpec, folder: RunFolder, output: Output) -> asyncio.subprocess.Process:
        self.spawning += 1
        try:
            return await asyncio.create_subprocess_exec(
                *self._command(spec),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.write_end,
                stderr=output.write_end,
                cwd=REPOSITORY,
                env=self._environment_of(spec, folder),
                start_new_session=True,
            )
        finally:
            self.spawning -= 1

    def _command(self, spec: ChildSpec) -> tuple[str, ...]:
        ports = ("--server-port", str(spec.api_port), "--stream-port", str(spec.stream_port))
        profile = ("--active-auth-json", str(spec.profile_path))
        chain = (str(self._setpriv), "--pdeathsig", "KILL", "--")
        return (*chain, *self._program, *self._arguments, *ports, *profile)

    def _environment_of(self, spec: ChildSpec, folder: RunFolder) -> dict[str, str]:
        return {
            **inherited_environment(),
            **self._environment,
            "PYTHONUNBUFFERED": "1",
            "KEY_FILE_PATH": str(self._root.key_file),
            "TABFLEET_RUN_DIR": str(folder.path),
            "TABFLEET_PARENT_PID": str(os.getpid()),
            "TABFLEET_GENERATION": str(spec.generation),
            "TABFLEET_INSTANCE_ID": spec.instance_id,
            "TABFLEET_CONTROL_TOKEN": spec.control_token,
            "TMPDIR": str(folder.tmp),
        }

    async def forget(self, name: str) -> None:
        self._logs.close(name)
        rubbish = self._root.forget(name)
        if rubbish is not None:
            await asyncio.to_thread(delete, rubbish)

    async def close(self) -> None:
        for child in tuple(self._running.values()):
            log.error("child_left_running", child=child.name, pid=child.pid)
            child.kill()
        self._logs.close_all()
        await asyncio.to_thread(self._root.remove)
