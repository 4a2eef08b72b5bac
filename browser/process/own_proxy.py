"""A login's own proxy, which fails closed: the browser knows a listener of this process, and no other way out.

The listener speaks HTTP and SOCKS to the browser, whatever the proxy is, and does the login at the proxy. So every
engine takes every proxy, no browser holds a password, and that the proxy is away is known here, at once and in words. A
connection that the proxy does not take ends; none is tried in another way. Names go to the proxy as they are: none is
resolved here but the proxy's own.

Wire formats: RFC 9110 section 9.3.6 (CONNECT), RFC 7617 (its login), RFC 1928 and 1929 (SOCKS5, by python-socks).
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
import time
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import structlog

from browser.errors import ProxyRefused, ProxyUnreachable, SiteUnreachable
from browser.process.proxy_requests import Request, Streams, Target, Wish, close, read_wish, relay
from browser.settings import BrowserSettings
from contract.errors import TabfleetError
from contract.proxies import Proxy

log = structlog.get_logger("browser")

CONNECT_TIMEOUT_S = 15.0
"""How long the proxy may take to be reached, and to reach a host."""
LOOK_AGAIN_S = 5.0
"""How long after its last sign of life the proxy is looked at again, and how often while it is away."""
_HEAD_BYTES: Final = 256 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})\b")
_BROKEN_OFF: Final = (EOFError, TimeoutError, ConnectionResetError, BrokenPipeError)
_NOT_ALLOWED: Final = 2
_SOCKS_REPLIES: Final[Mapping[int, str]] = {
    3: "its network is unreachable",
    4: "no such host, or it is unreachable",
    5: "it refuses the connection",
    6: "it did not answer in time",
}
"""RFC 1928 section 6, without what a proxy says of itself."""

ProxyProblem = ProxyRefused | ProxyUnreachable
"""What is wrong with a proxy itself."""


class _BadReply(TabfleetError):
    """What answers is no proxy of this kind."""


class OwnProxy:
    """The listener for one browser, and the one proxy behind it.

    `site_url` is the page's address: a loopback address is reached, through the proxy, only if it is the page's own, so
    that a proxy on this machine does not open its other services to the page.
    """

    def __init__(self, proxy: Proxy, site_url: str, *, extra_ca_file: Path | None = None) -> None:
        parts = urlsplit(site_url)
        self._proxy = proxy
        self._is_plain = parts.scheme == "http"
        self._site = Target.of(parts.netloc.rpartition("@")[2], 80 if self._is_plain else 443)
        self._extra_ca_file = extra_ca_file
        self._tls: ssl.SSLContext | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._problem: ProxyProblem | None = None
        self._heard_at = -LOOK_AGAIN_S

    @property
    def port(self) -> int:
        """The listener's port on 127.0.0.1. Only while it is open."""
        if self._server is None:
            raise RuntimeError("the listener is not open")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Open the listener. Raises OSError where the machine has no port left, or EXTRA_CA_FILE cannot be read."""
        if self._proxy.scheme == "https":
            self._tls = ssl.create_default_context()
            if self._extra_ca_file:
                self._tls.load_verify_locations(self._extra_ca_file)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_HEAD_BYTES)

    async def close(self) -> None:
        """Close the listener and all that goes through it."""
        if self._server:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    async def check(self) -> None:
        """Have the proxy connect to the site. Takes CONNECT_TIMEOUT_S seconds at most.

        Raises ProxyUnreachable, ProxyRefused, and SiteUnreachable where the proxy works, but cannot reach the site.
        """
        if self._is_plain and self._proxy.scheme != "socks5":
            await self._check_plain()
        else:
            close(await self._tunnel(self._site))

    def look(self) -> ProxyProblem | None:
        """Return what is wrong with the proxy, as far as its last connection tells; begin a new one if that is old.

        While it works, that one connects to the proxy alone, and asks it for nothing.
        """
        if time.monotonic() - self._heard_at >= LOOK_AGAIN_S:
            self._heard_at = time.monotonic()
            self._spawn(self._look(), "own-proxy-look")
        return self._problem

    async def look_now(self) -> ProxyProblem | None:
        """Return what is wrong with the proxy, by a connection that is made now. Takes CONNECT_TIMEOUT_S at most."""
        await self._look()
        return self._problem

    async def _look(self) -> None:
        with suppress(SiteUnreachable):
            if self._problem:
                await self.check()
            else:
                close(await self._reach())

    # What the browser asks for.

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._serve(reader, writer), "own-proxy-connection")

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: Streams | None = None
        try:
            wish = await read_wish(reader, writer)
            if wish.target.is_loopback and wish.target != self._site:
                log.info("own_proxy_loopback_refused", port=wish.target.port)
                writer.write(wish.refused)
            elif wish.request is None:
                upstream = await self._tunnel_or_refuse(wish, writer)
                if upstream:
                    writer.write(wish.granted)
                    await relay((reader, writer), upstream)
            else:
                upstream = await self._send_plain(wish.request, wish.target)
                begin = self._begin_plain(upstream[0], writer)
                await relay((reader, writer), upstream, body_bytes=wish.request.body_bytes(), begin=begin)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError, SiteUnreachable):
            pass  # an end without an answer: to the browser the site is not reached
        finally:
            for streams in filter(None, ((reader, writer), upstream)):
                close(streams)

    async def _tunnel_or_refuse(self, wish: Wish, writer: asyncio.StreamWriter) -> Streams | None:
        try:
            return await self._tunnel(wish.target)
        except SiteUnreachable:
            writer.write(wish.refused)
            return None

    async def _send_plain(self, request: Request, target: Target) -> Streams:
        """Send a request to a http:// address on. Raises SiteUnreachable.

        HTTP proxies take them as they are: many allow CONNECT to port 443 only.
        """
        if self._proxy.scheme == "socks5":
            upstream = await self._tunnel(target)
            upstream[1].write(request.head(request.path()))
            return upstream
        upstream = await self._reach()
        upstream[1].write(request.head(request.url, *self._authorization()))
        return upstream

    async def _begin_plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass the head of an answer on. Raises ProxyRefused in place of one that would ask a person for a password."""
        try:
            status, head = await _read_status(reader)
        except _BadReply as error:
            raise self._noted(self._unreachable(error)) from None
        if status == 407:
            raise self._noted(_login_refused())
        writer.write(head)

    def _authorization(self) -> tuple[bytes, ...]:
        if not self._proxy.username:
            return ()
        login = base64.b64encode(f"{self._proxy.username}:{self._proxy.password}".encode())
        return (b"Proxy-Authorization: Basic " + login,)

    # What the proxy says.

    async def _tunnel(self, target: Target) -> Streams:
        """Have the proxy connect to a host. Raises ProxyUnreachable, ProxyRefused, SiteUnreachable."""
        connect = self._tunnel_by_socks if self._proxy.scheme == "socks5" else self._tunnel_by_http
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                streams = await connect(target)
        except SiteUnreachable as error:
            if target == self._site or _is_of_all_sites(error):
                self._noted(error)
            raise
        except (OSError, EOFError, _BadReply) as error:
            unreachable = self._unreachable(error)
            # What ends without an answer, some proxies treat so for the sake of the host.
            if target == self._site or not isinstance(error, (*_BROKEN_OFF, _BadReply)):
                self._noted(unreachable)
            raise unreachable from None
        if target == self._site or _is_of_all_sites(self._problem):
            self._works()
        return streams

    async def _tunnel_by_socks(self, target: Target) -> Streams:
        from python_socks import ProxyConnectionError, ProxyError, ProxyType  # noqa: PLC0415 - few logins need it
        from python_socks.async_.asyncio.v2 import Proxy as SocksProxy  # noqa: PLC0415

        proxy = self._proxy
        name, password = (proxy.username, proxy.password) if proxy.username else (None, None)
        server = SocksProxy(ProxyType.SOCKS5, proxy.host, proxy.port, name, password, rdns=True)
        try:
            stream = await server.connect(target.host, target.port, timeout=CONNECT_TIMEOUT_S * 2)
        except ProxyConnectionError as error:
            raise (error.__cause__ if isinstance(error.__cause__, OSError) else error) from None
        except ProxyError as error:
            if error.error_code == _NOT_ALLOWED:
                raise _forbidden() from None
            if error.error_code is not None:
                said = _SOCKS_REPLIES.get(error.error_code, f"SOCKS reply {int(error.error_code)}")
                raise _site_not_reached(said) from None
            if "authentication" in str(error):  # the library has no other mark of it
                raise _login_refused() from None
            raise _BadReply from None
        except UnicodeError:
            raise _site_not_reached("its name is none") from None
        return stream.reader, stream.writer

    async def _tunnel_by_http(self, target: Target) -> Streams:
        reader, writer = await self._open()
        try:
            lines = (f"CONNECT {target} HTTP/1.1".encode(), f"Host: {target}".encode(), *self._authorization())
            writer.write(b"\r\n".join((*lines, b"", b"")))
            status, head = await _read_status(reader)
        except BaseException:
            close((reader, writer))
            raise
        if not 200 <= status < 300:
            close((reader, writer))
            raise _refusal(status, head)
        return reader, writer

    async def _check_plain(self) -> None:
        """Ask for the head of a page of a http:// site: what the proxy itself says comes as its status."""
        request = Request(b"HEAD", f"http://{self._site}/".encode(), (f"Host: {self._site}".encode(),))
        streams = await self._reach()
        try:
            streams[1].write(request.head(request.url, *self._authorization()))
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                status, head = await _read_status(streams[0])
            # The site's own answers have the same statuses, but for the first.
            if status == 407 or (_is_of_proxy(head) and status >= 400):
                raise self._noted(_refusal(status, head))
        except (OSError, EOFError, _BadReply) as error:
            raise self._noted(self._unreachable(error)) from None
        finally:
            close(streams)
        self._works()

    async def _reach(self) -> Streams:
        """Connect to the proxy itself. Raises ProxyUnreachable."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._open()
        except OSError as error:
            raise self._noted(self._unreachable(error)) from None

    async def _open(self) -> Streams:
        proxy = self._proxy
        return await asyncio.open_connection(proxy.host, proxy.port, ssl=self._tls, limit=_HEAD_BYTES)

    def _unreachable(self, error: Exception) -> ProxyUnreachable:
        if isinstance(error, TimeoutError):
            why = f"does not answer within {CONNECT_TIMEOUT_S:g} s"
        elif isinstance(error, ConnectionRefusedError):
            why = "refuses connections; does it run?"
        elif isinstance(error, socket.gaierror):
            why = "has a name that is not known here"
        elif isinstance(error, ssl.SSLCertVerificationError):
            why = "shows a certificate that is not trusted here; EXTRA_CA_FILE may name its authority"
        elif isinstance(error, ssl.SSLError | EOFError | _BadReply):
            why = f"does not answer as a proxy at {self._proxy.scheme}:// does"
        else:
            why = f"cannot be reached: {(isinstance(error, OSError) and error.strerror) or 'no connection'}"
        return ProxyUnreachable(f"the login's proxy {why}")

    def _noted(self, error: SiteUnreachable) -> SiteUnreachable:
        """Remember what an error says of the proxy: of a site that it cannot reach, that it works."""
        if not isinstance(error, ProxyProblem):
            self._works()
            return error
        if str(error) != str(self._problem):
            log.warning("own_proxy_failed", proxy=self._proxy.server, reason=str(error))
        self._problem, self._heard_at = error, time.monotonic()
        return error

    def _works(self) -> None:
        if self._problem:
            log.info("own_proxy_works", proxy=self._proxy.server)
        self._problem, self._heard_at = None, time.monotonic()


def own_proxy_of(proxy: Proxy | None, site_url: str, settings: BrowserSettings) -> OwnProxy | None:
    """Return what stands between a browser and the login's own proxy, if it has one."""
    return OwnProxy(proxy, site_url, extra_ca_file=settings.extra_ca_file) if proxy else None


def _is_of_all_sites(error: SiteUnreachable | None) -> bool:
    """Whether this error of one connection says that none can be made: a proxy may forbid one site, or not reach it."""
    return isinstance(error, ProxyUnreachable) or (isinstance(error, ProxyRefused) and error.login_refused)


def _login_refused() -> ProxyRefused:
    return ProxyRefused("the login's proxy refuses its user name or password", login_refused=True)


def _forbidden() -> ProxyRefused:
    return ProxyRefused("the login's proxy does not allow the site")


def _site_not_reached(why: str) -> SiteUnreachable:
    return SiteUnreachable(f"the login's proxy cannot reach the site: {why}")


def _refusal(status: int, head: bytes) -> SiteUnreachable:
    if status == 407:
        return _login_refused()
    if status in (401, 403, 405):
        return _forbidden()
    names_dns = re.search(rb"(?i)ERR_DNS_FAIL|dns_error|dns_timeout", head)
    return _site_not_reached("its name is unknown there" if names_dns else f"status {status}")


def _is_of_proxy(head: bytes) -> bool:
    """Whether a proxy says of its answer that it is its own: squid's header, or RFC 9209's."""
    return bool(re.search(rb"(?im)^(X-Squid-Error:|Proxy-Status:.*error=|Server: *(squid|tinyproxy)/)", head))


async def _read_status(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return a response's status and head. Raises OSError, EOFError, _BadReply."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _BadReply from None
    found = _STATUS_LINE.match(head)
    if not found:
        raise _BadReply
    return int(found[1]), head
