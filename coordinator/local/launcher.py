"""Children as processes on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from contract import child_environment
from contract.files import write_private
from contract.keys import KeyStore
from contract.logs import log_format
from contract.run_folder import SESSION, session_content
from contract.sessions.errors import BadSession, NotGranted
from contract.sessions.grant import read_grant
from contract.surroundings import write_surroundings
from coordinator.errors import LaunchError
from coordinator.local import processes
from coordinator.local.output import Logs, Output
from coordinator.local.run_folder import RunFolder, delete
from coordinator.local.run_root import RunRoot
from coordinator.sessions import Sessions
from coordinator.settings import Settings
from coordinator.site_files import site_name, site_path
from coordinator.supervision.launcher import ChildSpec, RenewedLogin

log = structlog.get_logger(__name__)

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = (sys.executable, str(REPOSITORY / "launch_camoufox.py"))

_INHERITED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|TZ|TERM|NO_COLOR|DISPLAY|XAUTHORITY|WAYLAND_DISPLAY|"
    r"DBUS_SESSION_BUS_ADDRESS|LD_LIBRARY_PATH|VIRTUAL_ENV|SSL_CERT_FILE|SSL_CERT_DIR|"
    r"(LC|XDG|PYTHON|PLAYWRIGHT|FONTCONFIG|MOZ)\w*"
)
_SETTINGS: Final = (
    "site_url",
    "browser_executable",
    "camoufox_executable_path",
    "chromium_sandbox",
    "first_token_timeout_s",
    "stream_idle_timeout_s",
    "login_check_s",
    "max_body_bytes",
    "estimate_usage",
    "log_level",
    "extra_ca_file",
    "https_proxy",
    "no_proxy",
)
"""Settings of ours that a child has under the same name."""

_KILLED_TIMEOUT_S: Final = 2.0
"""How long the kernel may take to end what was killed."""


def inherited_environment() -> dict[str, str]:
    """Return what a child takes over from our environment: no credentials, cloud or otherwise."""
    return {name: value for name, value in os.environ.items() if _INHERITED.fullmatch(name)}


def child_arguments(settings: Settings) -> tuple[str, ...]:
    """Return the part of a child's command line that is the same for all."""
    return ("--headless" if settings.headless else "--no-headless", "--engine", settings.browser_engine)


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return the part of a child's environment that comes from the settings; what is not set stays unset."""
    given = {name.upper(): getattr(settings, name) for name in _SETTINGS}
    given["LOG_FORMAT"] = log_format(settings.log_format)
    return {name: str(value) for name, value in given.items() if value is not None}


def _work_arguments(spec: ChildSpec) -> tuple[str, ...]:
    """Return the part of the command line that says what the child is for."""
    if spec.remote_login:
        return ("--remote-login",)
    return ("--stream-port", str(spec.stream_port), "--active-auth-json", str(spec.profile_path))


def _save_renewed(run_dir: Path, renewed: RenewedLogin) -> None:
    """Save a login as its child would have: in the session store if there is one. Raises OSError, RuntimeError."""
    try:
        grant = read_grant(run_dir)
        if grant is None:
            write_private(run_dir / SESSION, session_content(renewed.source_sha256, renewed.state))
        else:
            grant.save(renewed.source_sha256, dict(renewed.state), time.time())
    except (BadSession, NotGranted) as error:
        raise RuntimeError(f"the renewed login cannot be saved: {error}") from None


class LocalChild:
    """A `ChildProcess` in a session of its own, with its run folder."""

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
        """The name of its profile."""
        return self._spec.name

    @property
    def url(self) -> str:
        """Base URL of its HTTP face, without a slash at the end."""
        return f"http://127.0.0.1:{self._spec.api_port}"

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its session."""
        return self._process.pid

    async def wait(self) -> int:
        """Return its exit code once it has ended; negative for the signal that ended it."""
        exit_code = await self._process.wait()
        self._ended(self.pid)
        self._output.drain()
        return exit_code

    def terminate(self) -> None:
        """Send SIGTERM, if it has not ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, if it has not ended."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # Not Process.send_signal: it polls first, and may so take the exit code from who waits for it.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def submitted(self) -> frozenset[str] | None:
        """Return the ids of requests that may have been submitted; None if they cannot be read."""
        return self._folder.submitted()

    def has_folder(self) -> bool:
        """Return whether its run folder and its TMPDIR are still there."""
        return self._folder.exists()

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of its output, redacted."""
        return self._output.last_lines()

    def memory_bytes(self) -> int:
        """Return the proportional set size of child, driver and browser; reads all of /proc, so not in the loop."""
        return sum(map(processes.pss_bytes, processes.descendants(self.pid) | self._folder.browser_pids()))

    async def clean_up(self) -> int:
        """After its end: kill what outlived it, empty its run folder; return how many were killed."""
        killed = self._folder.kill_leftovers()
        if not await processes.wait_dead(killed, _KILLED_TIMEOUT_S):
            log.error("leftovers_will_not_die", child=self.name, pids=sorted(killed))
        self._output.close()
        # Deleted in the background: the next start needs the folder, not the space.
        if (rubbish := self._folder.empty()) is not None:
            asyncio.get_running_loop().run_in_executor(None, delete, rubbish)
        return len(killed)


class LocalLauncher:
    """Starts children here. Use it from the main thread: a child dies with the thread that spawned it."""

    def __init__(  # noqa: PLR0913 - all but one by keyword
        self,
        parent: Path | None = None,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        default_site: str | None = None,
        log_dir: Path | None = None,
        program: Sequence[str] = PROGRAM,
        sessions: Sessions | None = None,
    ) -> None:
        """`parent` takes the folder for running children (default: the system's folder for temporary files).

        `arguments` follow the program on every command line (engine, headless), and then the login's site, or
        `default_site`; `environment` is what the settings pass on to children. With `log_dir` a child's output is
        appended to NAME.log there, else it goes to our stderr line by line. `sessions` is where logins are saved,
        if not in the run folders.
        """
        self._parent = parent
        self._program, self._arguments = tuple(program), tuple(arguments)
        self._environment = dict(environment or {})
        self._sessions = sessions
        self._default_site = default_site
        self._setpriv = shutil.which("setpriv")
        self._logs = Logs(log_dir, as_json=self._environment.get("LOG_FORMAT") == "json")
        self._opened: RunRoot | None = None
        self._sites: dict[str, tuple[str, str]] = {}
        """By the names of sites: their files, and the text of each that children are started with."""
        self._running: dict[int, LocalChild] = {}
        self.spawning = 0
        self.on_reaped: Callable[[], None] = lambda: None

    @classmethod
    def from_settings(
        cls, settings: Settings, program: Sequence[str] = PROGRAM, sessions: Sessions | None = None
    ) -> LocalLauncher:
        """Return a launcher of children that go by the operator's settings."""
        return cls(
            arguments=child_arguments(settings),
            environment=settings_environment(settings),
            default_site=settings.chat_site,
            log_dir=settings.log_dir,
            program=program,
            sessions=sessions,
        )

    @property
    def own_pids(self) -> frozenset[int]:
        """Pids that this launcher waits for; nobody else may reap them."""
        return frozenset(self._running)

    @property
    def root(self) -> RunRoot:
        """The root of the run folders, once it is open."""
        if self._opened is None:
            raise LaunchError("The launcher of children has not been opened.")
        return self._opened

    def open(self) -> None:
        """Make the folder for running children. Raises RunFolderError; LaunchError if setpriv is missing."""
        if self._setpriv is None:
            raise LaunchError("setpriv is not installed; children need it (package util-linux).")
        self._opened = RunRoot(self._parent)
        for site, (file, text) in self._sites.items():
            self.use_site(site, file, text)

    def use_keys(self, keys: KeyStore) -> None:
        """Have children accept these API keys from now on, those that run too. Raises LaunchError."""
        try:
            self.root.write_keys(keys.to_text())
        except OSError as error:
            raise LaunchError(f"The children cannot be given their API keys: {error.strerror}.") from None

    def use_site(self, site: str, file: str, text: str) -> None:
        """Have children of this site that start from now on use a site file of this text. Raises LaunchError."""
        if self._opened is not None:
            try:
                self._opened.write_site(site, text)
            except OSError as error:
                raise LaunchError(f"The children cannot be given {file}: {error.strerror}.") from None
        self._sites[site] = (file, text)

    def forget_site(self, site: str) -> None:
        """Have children that start from now on use the site's own file again."""
        self._sites.pop(site, None)

    def _site_of(self, spec: ChildSpec) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return what a child is told of its site file, on the command line and in the environment.

        That is our copy, which stays when the file changes, under the name that the operator knows. A site that no
        child had yet, such as that of a new login, has no copy.
        """
        site = spec.login.site or self._default_site
        if not site:
            return (), {}
        name, file = site_name(site), str(site_path(site))
        if self._sites.get(name, ("", ""))[0] != file:
            return ("--site", site), {}
        return ("--site", str(self.root.site_file(name))), {child_environment.SITE_FILE: file}

    async def start(self, spec: ChildSpec) -> LocalChild:
        """Start a child, in a session of its own. Raises LaunchError if it cannot even begin to run."""
        folder = self.root.folder(spec.name)
        output: Output | None = None
        try:
            output = Output(self._logs.writer(spec.name))
            self.root.restore()
            folder.prepare()
            if self._sessions is not None and not spec.remote_login:
                await asyncio.to_thread(self._sessions.grant, spec.name, folder.path)
            write_surroundings(folder.path, spec.login.surroundings)
            if spec.renewed is not None:
                await asyncio.to_thread(_save_renewed, folder.path, spec.renewed)
            process = await self._spawn(spec, folder, output)
        except (OSError, RuntimeError) as error:  # such as "can't start new thread"
            if output is not None:
                output.close()
            why = error.strerror if isinstance(error, OSError) else error
            raise LaunchError(f"Child {spec.name!r} cannot be started: {why}.") from None
        output.begin()
        child = LocalChild(spec, process, folder, output, ended=self._ended)
        self._running[process.pid] = child
        self.on_reaped()
        return child

    def _ended(self, pid: int) -> None:
        del self._running[pid]
        self.on_reaped()

    async def _spawn(self, spec: ChildSpec, folder: RunFolder, output: Output) -> asyncio.subprocess.Process:
        site_arguments, site_environment = self._site_of(spec)
        command = (
            # The kernel ends the child when we die, whatever killed us.
            *(str(self._setpriv), "--pdeathsig", "KILL", "--"),
            *self._program,
            *self._arguments,
            *site_arguments,
            *("--server-port", str(spec.api_port)),
            *_work_arguments(spec),
        )
        environment = {
            **inherited_environment(),
            **self._environment,
            **site_environment,
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(folder.tmp),
            child_environment.KEY_FILE_PATH: str(self.root.key_file),
            child_environment.RUN_DIR: str(folder.path),
            child_environment.PARENT_PID: str(os.getpid()),
            child_environment.GENERATION: str(spec.generation),
            child_environment.INSTANCE_ID: spec.instance_id,
            child_environment.CONTROL_TOKEN: spec.control_token,
        }
        if spec.login.site:  # SITE_URL is the address of the other one
            environment.pop("SITE_URL", None)
        self.spawning += 1
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output.write_end,
                stderr=output.write_end,
                cwd=REPOSITORY,
                env=environment,
                start_new_session=True,
            )
        finally:
            self.spawning -= 1

    def reopen_logs(self) -> None:
        """Open the log files anew by their names: a program that rotates logs has renamed them."""
        self._logs.reopen()

    async def forget(self, name: str) -> None:
        """Remove the log file's handle and the run folder of a child that will not come back."""
        if self._sessions is not None:
            self._sessions.forget(name)
        try:
            self._logs.close(name)
            discarded = self.root.forget(name)
            if discarded is not None:
                await asyncio.to_thread(delete, discarded)
        except (OSError, RuntimeError) as error:  # what is left goes with the root
            log.warning("run_folder_left", child=name, error=str(error))

    async def close(self) -> None:
        """Kill what still runs, and remove all run folders. Idempotent, and harmless before `open`."""
        for child in tuple(self._running.values()):
            log.error("child_left_running", child=child.name, pid=child.pid)
            child.kill()
        self._logs.close_all()
        if self._opened is not None:
            await asyncio.to_thread(self._opened.remove)
