"""Logins that a person does from anywhere: who may begin one, how long it lasts, and where it is saved.

The names, each with one meaning:

NewLogin       what an operator asks for
link           `/login/TOKEN`; who opens it first gets a cookie, and is the only one who sees and acts
Login          one of them, from the request to a while after its end
save           what the login is handed to: the session store of an existing profile, a download, or both
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import structlog
from pydantic import BaseModel, ConfigDict, Field

from contract.api_error import bad_request
from contract.errors import BadProfile, TabfleetError, reasons_only
from contract.exit_codes import MEANINGS, ExitCode
from contract.remote_login import LoginPhase, LoginState
from contract.storage_state.document import parse_document
from contract.storage_state.summary import ProfileSummary
from coordinator.errors import ActionRefused
from coordinator.fleet_file.login import PLAIN
from coordinator.fleet_file.login import Login as FleetLogin
from coordinator.logins.child import ChildSilent, LoginChild
from coordinator.profiles.discover import check_name
from coordinator.supervision.launcher import ChildProcess, ChildSpec, Launcher

log = structlog.get_logger(__name__)

SaveTo = Literal["store", "download"]

_NO_ANSWER_PAUSE_S: Final = 0.2
_AUDITED: Final = {
    LoginPhase.SAVED: "login_saved",
    LoginPhase.FAILED: "login_failed",
    LoginPhase.CANCELLED: "login_cancelled",
    LoginPhase.EXPIRED: "login_expired",
}
"""What the log calls each end of a login."""


class NewLogin(BaseModel):
    """What an operator asks for: `profile` is the name of one that there is, whose login is renewed, or of a new one.

    `save` is `store` where the profile exists, and `download` otherwise, if it is not given. `site` is that of the
    fleet if it is not given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str = Field(min_length=1, max_length=200)
    site: str | None = None
    save: list[SaveTo] | None = Field(default=None, min_length=1, max_length=2)


@dataclass(frozen=True)
class LoginLimits:
    """Times in seconds. Each login is a browser, so there are few at a time."""

    at_once: int = 2
    link_s: float = 600.0  # until somebody opens the link
    idle_s: float = 300.0  # after the last request: a phone that shows the code of an app asks for nothing
    total_s: float = 900.0  # after the link was opened
    kept_s: float = 600.0  # after the end, for the download and the last words


class Saver(Protocol):
    """The seam to where logins are kept: whoever keeps them has them used for the profile of this name."""

    def check(self, profile_name: str) -> None:
        """Raise ActionRefused if this profile's login could not be taken over now."""

    def save(self, profile_name: str, document: Mapping[str, Any]) -> str:
        """Take over a storage_state; return a line for the person. Raises TabfleetError."""


@dataclass(eq=False)
class Login:
    """One login. Times are the loop's; `by` is who asked for it, as `audit_name` gives it."""

    profile: str
    save: tuple[SaveTo, ...]
    by: str
    deadline: float
    state: LoginState = field(default_factory=LoginState)
    document: bytes | None = field(default=None, repr=False)
    child: LoginChild | None = field(default=None, repr=False)
    cookie: bytes | None = field(default=None, repr=False)
    """The SHA-256 of the cookie of who opened the link; None as long as nobody has."""
    last_seen: float = 0.0
    told: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """The state is final."""
    gone: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    """Nothing of its browser is left."""

    def end(self, phase: LoginPhase, detail: str) -> None:
        """Make the state final, if it is not yet."""
        if not self.told.is_set():
            self.state = replace(self.state, phase=phase, detail=detail, number=self.state.number + 1)
            self.told.set()
            log.info(_AUDITED[phase], profile=self.profile, by=self.by)

    def is_opened_by(self, cookie: str | None) -> bool:
        """Return whether this cookie is that of who opened the link."""
        return self.cookie is not None and hmac.compare_digest(self.cookie, _digest(cookie or ""))


class RemoteLogins:
    """All logins that persons do now, and those that have just ended. Make it inside a running loop."""

    def __init__(  # noqa: PLR0913 - what it is given is what it may use
        self,
        *,
        launcher: Launcher,
        saver: Saver,
        profiles: Callable[[], Iterable[str]],
        site: str,
        login_of: Callable[[str], FleetLogin] = lambda _: PLAIN,
        limits: LoginLimits | None = None,
    ) -> None:
        """`profiles` are the names that there are; `login_of` is what the fleet file says of one."""
        self._launcher, self._saver, self._profiles, self._login_of = launcher, saver, profiles, login_of
        self._site = site
        self.limits = limits or LoginLimits()
        self._logins: dict[bytes, Login] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._now = asyncio.get_running_loop().time

    # What an operator does

    async def begin(self, wanted: NewLogin, by: str) -> dict[str, Any]:
        """Open a browser on the site's login page; return the link, and until when it can be opened, in Unix seconds.

        A login of the same profile whose link nobody has opened ends. Raises ActionRefused, LaunchError, and ApiError
        (400).
        """
        save = self._checked(wanted)
        self._forget_old()
        while others := self._of(wanted.profile):
            if others[0].cookie is not None and not others[0].told.is_set():
                raise ActionRefused(f"Somebody is logging in for {wanted.profile!r} now; wait until that has ended.")
            others[0].end(LoginPhase.CANCELLED, "another link was made for this profile")
            await others[0].gone.wait()
        if sum(not login.gone.is_set() for login in self._logins.values()) >= self.limits.at_once:
            raise ActionRefused(f"{self.limits.at_once} logins are open already; wait until one has ended.")
        token, login = secrets.token_urlsafe(32), Login(wanted.profile, save, by, self._now() + self.limits.link_s)
        self._logins[_digest(token)] = login
        spec = _spec(wanted.profile, self._login_of(wanted.profile))
        try:
            process = await self._launcher.start(spec)
        except BaseException:
            del self._logins[_digest(token)]
            login.gone.set()
            raise
        login.child = LoginChild(process.url, spec.control_token)
        task = asyncio.create_task(self._run(login, process, spec.name), name=spec.name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        log.info("login_begun", profile=login.profile, save=list(save), by=by)
        return {
            "profile": login.profile,
            "save": list(save),
            "link": f"/login/{token}",
            "expires_at": round(time.time() + self.limits.link_s),
        }

    def _checked(self, wanted: NewLogin) -> tuple[SaveTo, ...]:
        """Return where the login is to be saved. Raises ApiError (400) for what cannot be done, ActionRefused."""
        if self._closing:
            raise ActionRefused("The coordinator is shutting down.")
        site = self._login_of(wanted.profile).site_name or Path(self._site).stem
        if wanted.site not in (None, site):
            raise bad_request(f"site: that of this profile is {site!r}; leave it out.", param="site")
        try:
            check_name(f"{wanted.profile}.json")
        except BadProfile as error:
            raise bad_request(f"profile: {error.reason}.", param="profile") from None
        exists = wanted.profile in self._profiles()
        save: tuple[SaveTo, ...] = tuple(sorted(set(wanted.save or (["store"] if exists else ["download"]))))
        if "store" in save and not exists:
            message = f"save: there is no profile {wanted.profile!r} to renew; save a new one as a download."
            raise bad_request(message, param="save")
        if "store" in save:
            self._saver.check(wanted.profile)
        return save

    def _of(self, profile: str) -> list[Login]:
        return [login for login in self._logins.values() if login.profile == profile and not login.gone.is_set()]

    def _forget_old(self) -> None:
        """Drop what has ended so long ago that nobody comes for it any more."""
        now = self._now()
        for token, login in tuple(self._logins.items()):
            if login.gone.is_set() and now >= login.deadline:
                del self._logins[token]

    # What the person does

    def find(self, token: str) -> Login | None:
        """Return the login of this link, also one that has ended lately."""
        self._forget_old()
        return self._logins.get(_digest(token))

    def open(self, login: Login) -> str | None:
        """Use up the link; return the cookie, None if somebody has opened it already, or it is over."""
        if login.cookie is not None or login.state.phase.is_final:
            return None
        cookie = secrets.token_urlsafe(32)
        login.cookie = _digest(cookie)
        login.last_seen = self._now()
        login.deadline = self._now() + self.limits.total_s
        log.info("login_opened", profile=login.profile, by=login.by)
        return cookie

    def saw(self, login: Login) -> None:
        """Note that the person is there."""
        login.last_seen = self._now()

    # What becomes of it

    async def _run(self, login: Login, process: ChildProcess, name: str) -> None:
        """Follow the child until the login is over; then nothing of its browser is left."""
        assert login.child is not None  # noqa: S101 - begin() has just set it
        following = asyncio.create_task(self._follow(login, login.child), name=f"{name} state")
        exited = asyncio.create_task(process.wait(), name=f"{name} exit")
        told = asyncio.create_task(login.told.wait(), name=f"{name} told")
        try:
            while not login.state.phase.is_final:
                idle_at = login.deadline if login.cookie is None else login.last_seen + self.limits.idle_s
                over_in_s = min(login.deadline, idle_at) - self._now()
                if over_in_s <= 0:
                    login.end(LoginPhase.EXPIRED, "the time for this login is over; ask for a new link")
                    break
                # Whoever opens the link has less time from then on.
                wait_s = min(over_in_s, self.limits.idle_s)
                await asyncio.wait({following, exited, told}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if following.done() and (error := following.exception()) is not None:
                    log.error("login_broke", profile=login.profile, exc_info=error)
                    login.end(LoginPhase.FAILED, "an error in the program itself; its log has the place")
                elif exited.done():
                    code = exited.result()
                    meaning = MEANINGS[ExitCode(code)] if code in set(ExitCode) else f"exit code {code}"
                    login.end(LoginPhase.FAILED, f"its browser has ended ({meaning})")
        finally:
            login.end(LoginPhase.CANCELLED, "the coordinator is shutting down")
            following.cancel()
            told.cancel()
            process.kill()
            await exited
            await login.child.close()
            with contextlib.suppress(OSError, RuntimeError):  # what is left goes with the root of all run folders
                await process.clean_up()
            await self._launcher.forget(name)
            login.deadline = self._now() + self.limits.kept_s
            asyncio.get_running_loop().call_at(login.deadline, self._forget_old)  # a download does not stay in memory
            login.gone.set()

    async def _follow(self, login: Login, child: LoginChild) -> None:
        """Take over what the child says of its state, and save the login when there is one."""
        number = -1
        while not login.told.is_set():
            try:
                state = await child.state(number)
                document = await child.document() if state.phase is LoginPhase.SAVED else b""
            except ChildSilent:
                await asyncio.sleep(_NO_ANSWER_PAUSE_S)
                continue
            number = state.number
            if login.told.is_set():
                return
            if state.phase is LoginPhase.SAVED:
                self._save(login, document)
            elif state.phase is LoginPhase.FAILED:
                login.end(LoginPhase.FAILED, state.detail or "the browser failed")
            else:
                login.state = state

    def _save(self, login: Login, data: bytes) -> None:
        said = []
        try:
            with reasons_only():
                document = parse_document(data)
                ProfileSummary.of(document)
            if "store" in login.save:
                said.append(self._saver.save(login.profile, document))
        except BadProfile as error:
            login.end(LoginPhase.FAILED, f"no start could use what the browser holds of the login: it {error.reason}")
            return
        except TabfleetError as error:
            login.end(LoginPhase.FAILED, f"you are logged in, but that could not be saved: {error}")
            return
        if "download" in login.save:
            login.document = json.dumps(document, indent=2, ensure_ascii=False).encode()
            said.append("Download the profile now: it is kept for a few minutes only.")
        login.end(LoginPhase.SAVED, " ".join(said))

    # The end

    def begin_drain(self) -> None:
        """Begin no further one, and end all there are."""
        self._closing = True
        for login in self._logins.values():
            login.end(LoginPhase.CANCELLED, "the coordinator is shutting down")

    async def close(self) -> None:
        """End all of them now, and wait until nothing of their browsers is left. Idempotent."""
        self.begin_drain()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def audit_name(key: str | None) -> str:
    """Return what an audit line calls a key: the first digits of its SHA-256, as `sha256sum` shows them."""
    return f"sha256:{hashlib.sha256((key or '').encode()).hexdigest()[:8]}"


def _spec(profile: str, login: FleetLogin) -> ChildSpec:
    # No profile has a colon in its name, so that the run folder is no child's.
    port = _free_port()
    return ChildSpec(
        name=f"login:{profile}",
        profile_path=Path(),
        api_port=port,
        stream_port=port,
        generation=0,
        instance_id=secrets.token_hex(8),
        control_token=secrets.token_urlsafe(24),
        login=login,
        remote_login=True,
    )


def _free_port() -> int:
    """Return a port that nobody uses now, of those that the kernel gives away: the children's are planned elsewhere."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
