"""Children as processes on this machine."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from contract import child_environment
from contract.files import write_private
from contract.host_orders import HOST_FLAG, ChildOrder
from contract.keys import KeyStore
from contract.logs import log_format
from contract.run_folder import SESSION, session_content
from contract.sessions.errors import BadSession, NotGranted
from contract.sessions.grant import read_grant
from contract.surroundings import write_surroundings
from coordinator.errors import LaunchError
from coordinator.local import processes
from coordinator.local.host import HostedChild, HostProcess
from coordinator.local.hosts import Hosts
from coordinator.local.output import Logs, Output
from coordinator.local.run_folder import RunFolder, delete, delete_later
from coordinator.local.run_root import CLAIM_DEADLINE, RunRoot
from coordinator.sessions import Sessions
from coordinator.settings import Settings
from coordinator.site_files import site_name, site_path
from coordinator.supervision.launcher import ChildSpec, Company, RenewedLogin, SpareBrowsers
from coordinator.supervision.ports import StreamPorts

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
    "sleep_after_s",
    "sleep_check_s",
    "max_body_bytes",
    "estimate_usage",
    "log_level",
    "extra_ca_file",
    "https_proxy",
    "no_proxy",
)
"""Settings of ours that a child has under the same name."""


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

    def __init__(  # noqa: PLR0913 - all but four by keyword
        self,
        spec: ChildSpec,
        process: asyncio.subprocess.Process,
        folder: RunFolder,
        output: Output,
        *,
        ended: Callable[[int], object],
        clean: Callable[[], object],
    ) -> None:
        """`ended` is called with its pid when it has been waited for, `clean` when nothing of it is left."""
        self._spec = spec
        self._ended, self._clean = ended, clean
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
        processes.send_signal(self._process, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, if it has not ended."""
        processes.send_signal(self._process, signal.SIGKILL)

    def fence(self) -> None:
        """Send SIGKILL, if it has not ended: nobody shares its browser."""
        self.kill()

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
        return self._folder.memory_bytes(self.pid)

    def retire_browser(self) -> None:
        """Do nothing: no other child starts in its browser."""

    async def clean_up(self) -> int:
        """After its end: kill what outlived it, empty its run folder; return how many were killed."""
        killed = self._folder.kill_leftovers()
        await processes.wait_killed(killed, child=self.name)
        self._output.close()
        delete_later(self._folder.empty())
        self._clean()
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
        logins_per_browser: int = 1,
        spare_browsers: int = 0,
        stream_ports: StreamPorts | None = None,
        claim_deadline_file: Path | None = None,
    ) -> None:
        """`parent` takes the folder for running children (default: the system's folder for temporary files).

        `arguments` follow the program on every command line (engine, headless), and then the login's site, or
        `default_site`; `environment` is what the settings pass on to children. With `log_dir` a child's output is
        appended to NAME.log there, else it goes to our stderr line by line. `sessions` is where logins are saved,
        if not in the run folders. With `logins_per_browser` above 1, logins share browsers; `spare_browsers` are kept
        ready for the next starts. With either, `stream_ports` gives each browser its stream port; else a child takes
        the one of its slot. `claim_deadline_file`, a path from the root of run folders on, says until when
        the claims of all logins hold: children end with them, but not those in which a person logs in.
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
        self._stream_ports = stream_ports
        self._claim_deadline_file = claim_deadline_file
        self._hosts = (
            Hosts(
                logins_per_browser,
                stream_ports,
                self._logs,
                root=lambda: self.root,
                spare_browsers=spare_browsers,
                spawn=self._spawn_host,
                changed=self._host_changed,
            )
            if (logins_per_browser > 1 or spare_browsers) and stream_ports is not None
            else None
        )
        self.spawning = 0
        self.on_reaped: Callable[[], None] = lambda: None

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        program: Sequence[str] = PROGRAM,
        sessions: Sessions | None = None,
    ) -> LocalLauncher:
        """Return a launcher of children that go by the operator's settings."""
        own_ports = settings.logins_per_browser > 1 or settings.spare_browsers > 0
        return cls(
            arguments=child_arguments(settings),
            environment=settings_environment(settings),
            default_site=settings.chat_site,
            log_dir=settings.log_dir,
            program=program,
            sessions=sessions,
            logins_per_browser=settings.logins_per_browser,
            spare_browsers=settings.spare_browsers,
            claim_deadline_file=None if settings.claims == "none" else Path(CLAIM_DEADLINE),
            stream_ports=StreamPorts(settings.base_stream_port, settings.port_step) if own_ports else None,
        )

    @property
    def own_pids(self) -> frozenset[int]:
        """Pids that this launcher waits for; nobody else may reap them."""
        return frozenset(self._running) | (self._hosts.pids if self._hosts else frozenset())

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

    def _site_of(self, spec: ChildSpec) -> tuple[str | None, str | None]:
        """Return the site that a child is given, and the path that its messages show where that is a copy.

        That is our copy, which stays when the file changes, under the name that the operator knows. A site that no
        child had yet, such as that of a new login, has no copy.
        """
        site = spec.login.site or self._default_site
        if not site:
            return None, None
        name, file = site_name(site), str(site_path(site))
        if self._sites.get(name, ("", ""))[0] != file:
            return site, None
        return str(self.root.site_file(name)), file

    async def start(self, spec: ChildSpec) -> LocalChild | HostedChild:
        """Start a child: in a host, which others of its site may share, or in a process and browser of its own.

        Raises LaunchError if it cannot even begin to run.
        """
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
            child = await self._start_hosted(spec, folder, output) or await self._start_own(spec, folder, output)
        except (OSError, RuntimeError) as error:  # such as "can't start new thread"
            if output is not None:
                output.close()
            why = error.strerror if isinstance(error, OSError) else error
            raise LaunchError(f"Child {spec.name!r} cannot be started: {why}.") from None
        output.begin()
        return child

    async def _start_hosted(self, spec: ChildSpec, folder: RunFolder, output: Output) -> HostedChild | None:
        """Start a child in a host; return None if it is one that gets a browser of its own, never a spare.

        A spare is nothing for one with a proxy of its own, which the browser is started with. It is nothing for a
        suspect either: one that ends browsers would take one spare after the other from all others, and where it was
        the spare that was at fault, only a start that has nothing to do with one shows it.
        """
        site, site_shown = self._site_of(spec)
        if (
            self._hosts is None
            or spec.remote_login
            or spec.company is Company.NONE
            or spec.login.has_own_browser
            or site is None
        ):
            return None
        order = ChildOrder(
            name=spec.name,
            profile=spec.profile_path,
            site=site,
            site_shown=site_shown,
            site_url=None if spec.login.site else self._environment.get("SITE_URL"),
            run_dir=folder.path,
            api_port=spec.api_port,
            generation=spec.generation,
            instance_id=spec.instance_id,
            control_token=spec.control_token,
        )
        return await self._hosts.start(spec, order, folder, output)

    async def _start_own(self, spec: ChildSpec, folder: RunFolder, output: Output) -> LocalChild:
        ports, port = self._stream_ports, spec.stream_port
        if ports is None or spec.remote_login:
            return await self._start_process(spec, folder, output, clean=lambda: None)
        port = ports.take()
        try:
            return await self._start_process(
                replace(spec, stream_port=port), folder, output, clean=lambda: ports.give_back(port)
            )
        except (OSError, RuntimeError):
            ports.give_back(port)
            raise

    async def _start_process(
        self, spec: ChildSpec, folder: RunFolder, output: Output, *, clean: Callable[[], object]
    ) -> LocalChild:
        process = await self._spawn(spec, folder, output)
        child = LocalChild(spec, process, folder, output, ended=self._ended, clean=clean)
        self._running[process.pid] = child
        self.on_reaped()
        return child

    def _ended(self, pid: int) -> None:
        del self._running[pid]
        self.on_reaped()

    def _host_changed(self) -> None:
        self.on_reaped()  # looked up anew each time: the reaper of process 1 sets it later

    async def _spawn(self, spec: ChildSpec, folder: RunFolder, output: Output) -> asyncio.subprocess.Process:
        site, site_shown = self._site_of(spec)
        return await self._execute(
            (
                *(("--site", site) if site else ()),
                *("--server-port", str(spec.api_port)),
                *_work_arguments(spec),
            ),
            {
                **({} if site_shown is None else {child_environment.SITE_FILE: site_shown}),
                child_environment.GENERATION: str(spec.generation),
                child_environment.INSTANCE_ID: spec.instance_id,
                child_environment.CONTROL_TOKEN: spec.control_token,
                **({} if spec.remote_login else self._fence()),
            },
            folder,
            output,
            takes_site_url=not spec.login.site,
        )

    async def _spawn_host(self, host: HostProcess, descriptor: int) -> asyncio.subprocess.Process:
        return await self._execute(
            ("--stream-port", str(host.stream_port), HOST_FLAG, str(descriptor)),
            self._fence(),
            host.folder,
            host.output,
            takes_site_url=False,  # the orders have it
            inherited=(descriptor,),
        )

    def _fence(self) -> dict[str, str]:
        """Return the variable by which a process is told when it must end."""
        path = self._claim_deadline_file
        return {} if path is None else {child_environment.CLAIM_DEADLINE_FILE: str(self.root.path / path)}

    async def _execute(  # noqa: PLR0913 - what children and hosts differ in
        self,
        arguments: Sequence[str],
        variables: Mapping[str, str],
        folder: RunFolder,
        output: Output,
        *,
        takes_site_url: bool,
        inherited: Sequence[int] = (),
    ) -> asyncio.subprocess.Process:
        command = (
            # The kernel ends the child when we die, whatever killed us.
            *(str(self._setpriv), "--pdeathsig", "KILL", "--"),
            *self._program,
            *self._arguments,
            *arguments,
        )
        environment = {
            **inherited_environment(),
            **self._environment,
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(folder.tmp),
            child_environment.KEY_FILE_PATH: str(self.root.key_file),
            child_environment.RUN_DIR: str(folder.path),
            child_environment.PARENT_PID: str(os.getpid()),
            **variables,
        }
        if not takes_site_url:  # it is the address of CHAT_SITE, and of no other
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
                pass_fds=inherited,
            )
        finally:
            self.spawning -= 1

    def allow_spares(self, *, allowed: bool) -> None:
        """Say whether spare browsers may be started now: not while starts go on that somebody waits for."""
        if self._hosts is not None and self._opened is not None:
            self._hosts.spares.allow(allowed=allowed)

    def end_spares(self) -> None:
        """End spare browsers at once, and start none any more. Idempotent, and harmless before `open`."""
        if self._hosts is not None:
            self._hosts.spares.end()

    def spares(self) -> SpareBrowsers | None:
        """Return what there is of spare browsers; None where none are wanted."""
        status = self._hosts.spares.status if self._hosts is not None else None
        return status if status is not None and status.wanted else None

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
        if self._hosts is not None:
            await self._hosts.close()
        self._logs.close_all()
        if self._opened is not None:
            await asyncio.to_thread(self._opened.remove)
