"""The listener of a login's own proxy, between a client that speaks as browsers do and a small real proxy."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from browser.errors import ProxyRefused, ProxyUnreachable, SiteUnreachable
from browser.process import own_proxy
from browser.process.own_proxy import OwnProxy
from browser.process.proxy_requests import Request, Target
from contract.proxies import parse_own_proxy
from tests.browser.small_proxy import LOGIN, small_proxy
from tests.support.authority import Authority
from tests.support.waiting import HANG_LIMIT_S, eventually

KINDS = ("http", "https", "socks5")
NAME = "site.test"
BODY = b"x" * 300_000 + b"end"
"""More than one read takes."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.sign("127.0.0.1"))
    return context


@dataclass
class Origin:
    """A site that answers requests with their bodies, and sends all else back as it comes."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(4)
        if first in (b"POST", b"GET ", b"HEAD"):
            head = first + await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            body = await reader.readexactly(Request.parse(head).body_bytes() or 0)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        while first:
            writer.write(first)
            first = await reader.read(65536)
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Origin]:
    origin = Origin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()


@asynccontextmanager
async def listening(
    url: str, site_url: str = f"https://{NAME}/", ca_file: Path | None = None
) -> AsyncIterator[OwnProxy]:
    proxy = OwnProxy(parse_own_proxy(url), site_url, extra_ca_file=ca_file)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


async def say(proxy: OwnProxy, *pieces: bytes, until: bytes = b"end") -> bytes:
    """Send each piece once the one before has an answer; return what comes to the last, up to `until` or the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1_000_000)
    try:
        async with asyncio.timeout(HANG_LIMIT_S):
            for piece in pieces[:-1]:
                writer.write(piece)
                if not await reader.read(1000):
                    return b""
            writer.write(pieces[-1])
            return await reader.readuntil(until)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def connect(host: str, port: int) -> bytes:
    return f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Connection: keep-alive\r\n\r\n".encode()


def socks(host: str, port: int) -> tuple[bytes, bytes]:
    return b"\5\1\0", b"\5\1\0\3" + bytes([len(host)]) + host.encode() + port.to_bytes(2, "big")


def post(host: str, port: int, body: bytes = BODY) -> bytes:
    lines = (f"POST http://{host}:{port}/a?b HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "Proxy-Connection: keep-alive", "", "")).encode() + body


@pytest.mark.parametrize("asking", ["connect", "socks", "plain"])
@pytest.mark.parametrize("kind", KINDS)
async def test_all_that_a_browser_can_ask_goes_to_any_kind_of_proxy(
    kind: str, asking: str, authority: Authority, tls: ssl.SSLContext
) -> None:
    """The name is not resolved here, and the login is the listener's to give."""
    async with serving() as origin, small_proxy(kind, tls=tls if kind == "https" else None) as small:
        small.login, small.hosts = LOGIN, {NAME: "127.0.0.1"}
        pieces = {
            "connect": (connect(NAME, origin.port), BODY),
            "socks": (*socks(NAME, origin.port), BODY),
            "plain": (post(NAME, origin.port),),
        }
        async with listening(small.url_with_login, ca_file=authority.file) as proxy:
            said = await say(proxy, *pieces[asking])
        assert said.endswith(BODY)
        assert small.asked == [f"{NAME}:{origin.port}"]
        for head in origin.heads:
            assert b"/a?b HTTP/1.1\r\n" in head
            assert b"\r\nConnection: close\r\n" in head
            assert b"Proxy-Connection" not in head


@pytest.mark.parametrize("kind", ["http", "socks5"])
async def test_a_connection_that_a_request_was_sent_on_takes_no_other(kind: str) -> None:
    """Browsers use a proxy's connection again for any host, and this one ends at the first one's."""
    async with serving() as origin, small_proxy(kind) as small:
        small.hosts = {NAME: "127.0.0.1"}
        async with listening(small.url) as proxy:
            said = await say(proxy, post(NAME, origin.port, b"end") + post("other.test", 80, b"end"), until=b"never")
        assert said.count(b"end") <= 1
        assert small.asked == [f"{NAME}:{origin.port}"]
        assert all(b"other.test" not in head for head in (*origin.heads, *small.heads))


LOOPBACK = (
    "localhost",
    "LOCALHOST",
    "a.localhost",
    "localhost.",
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "0x0",
    "2130706433",
    "0.0.0.0",
)


@pytest.mark.parametrize("asking", ["connect", "socks", "plain"])
async def test_a_page_reaches_no_loopback_but_its_own(asking: str) -> None:
    async with serving() as origin, small_proxy("socks5") as small:

        def pieces(host: str) -> tuple[bytes, ...]:
            if asking == "plain":
                return (post(host, origin.port, b"end"),)
            return (*(socks(host, origin.port) if asking == "socks" else (connect(host, origin.port),)), b"end")

        async with listening(small.url) as proxy:
            for host in (*LOOPBACK, *(("[::1]", "[::ffff:127.0.0.1]", "[::]") if asking != "socks" else ())):
                assert b"end" not in await say(proxy, *pieces(host)), host
        assert small.asked == []
        async with listening(small.url, f"http://127.0.0.1:{origin.port}/chat") as proxy:
            assert (await say(proxy, *pieces("127.0.0.1"))).endswith(b"end")


OWN_REPLIES = {
    "login": b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\n\r\n",
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nServer: squid/5.7\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n",
    "no name": b"HTTP/1.1 503 Service Unavailable\r\nServer: squid/5.7\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\n\r\n",
    "no site": b"HTTP/1.1 500 Unable to connect\r\nServer: tinyproxy/1.11.1\r\n\r\n",
    "no proxy": b"220 mail.test ESMTP\r\n\r\n",
    "nothing": b"",
}
REFUSED = "the login's proxy refuses its user name or password"
FORBIDDEN = "the login's proxy does not allow the site"
NO_SITE = "the login's proxy cannot reach the site: "
WORDS = {
    "login": (ProxyRefused, REFUSED),
    "forbidden": (ProxyRefused, FORBIDDEN),
    "no name": (SiteUnreachable, f"{NO_SITE}its name is unknown there"),
    "no site": (SiteUnreachable, f"{NO_SITE}status 500"),
    "no proxy": (ProxyUnreachable, "the login's proxy does not answer as a proxy at http:// does"),
    "nothing": (ProxyUnreachable, "the login's proxy does not answer as a proxy at http:// does"),
}
SOCKS_WORDS = {
    b"\5\xff": (ProxyRefused, REFUSED),
    b"\5\0\5\2\0\1\0\0\0\0\0\0": (ProxyRefused, FORBIDDEN),
    b"\5\0\5\1\0\1\0\0\0\0\0\0": (SiteUnreachable, f"{NO_SITE}SOCKS reply 1"),
    b"\5\0\5\4\0\1\0\0\0\0\0\0": (SiteUnreachable, f"{NO_SITE}no such host, or it is unreachable"),
    b"\5\0\5\5\0\1\0\0\0\0\0\0": (SiteUnreachable, f"{NO_SITE}it refuses the connection"),
    b"HTTP/1.1 400 Bad Request\r\n\r\n": (
        ProxyUnreachable,
        "the login's proxy does not answer as a proxy at socks5:// does",
    ),
    b"": (ProxyUnreachable, "the login's proxy does not answer as a proxy at socks5:// does"),
}


async def checked(proxy: OwnProxy) -> tuple[type[Exception], str]:
    """What the check finds, in the log, too, and for those who look."""
    with capture_logs() as lines, pytest.raises(SiteUnreachable) as caught:
        await proxy.check()
    problem = proxy.look()
    if type(caught.value) is SiteUnreachable:
        assert problem is None
    else:
        assert problem is caught.value
        assert [line["reason"] for line in lines] == [str(problem)]
    assert LOGIN[1] not in f"{lines}{caught.value}"
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("reply", OWN_REPLIES)
async def test_each_failure_of_an_http_proxy_is_told_in_words(scheme: str, reply: str) -> None:
    async with small_proxy("http") as small, listening(small.url_with_login, f"{scheme}://{NAME}/") as proxy:
        small.reply = OWN_REPLIES[reply]
        assert await checked(proxy) == WORDS[reply]


@pytest.mark.parametrize("reply", SOCKS_WORDS, ids=range(len(SOCKS_WORDS)))
async def test_each_failure_of_a_socks_server_is_told_in_words(reply: bytes) -> None:
    async with small_proxy("socks5") as small, listening(small.url_with_login) as proxy:
        small.reply = reply
        assert await checked(proxy) == SOCKS_WORDS[reply]


async def test_a_wrong_password_is_told_by_either_kind() -> None:
    for kind in ("http", "socks5"):
        async with small_proxy(kind) as small, listening(small.url_with_login) as proxy:
            small.login = ("somebody", "else")
            assert await checked(proxy) == (ProxyRefused, REFUSED)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_proxy_that_is_not_there_is_told_in_words(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(own_proxy, "CONNECT_TIMEOUT_S", 0.3)
        async with listening(f"{kind}://127.0.0.1:{port}") as proxy:
            assert await checked(proxy) == (ProxyUnreachable, "the login's proxy does not answer within 0.3 s")
    async with listening(f"{kind}://127.0.0.1:{port}") as proxy:
        assert await checked(proxy) == (ProxyUnreachable, "the login's proxy refuses connections; does it run?")
    monkeypatch.setattr(own_proxy, "CONNECT_TIMEOUT_S", HANG_LIMIT_S)
    async with listening(f"{kind}://nowhere.invalid:{port}") as proxy:
        assert await checked(proxy) == (ProxyUnreachable, "the login's proxy has a name that is not known here")


async def test_a_proxys_certificate_is_checked(tls: ssl.SSLContext) -> None:
    async with small_proxy("https", tls=tls) as small, listening(small.url) as proxy:
        words = "the login's proxy shows a certificate that is not trusted here; EXTRA_CA_FILE may name its authority"
        assert await checked(proxy) == (ProxyUnreachable, words)


async def test_a_browser_is_never_asked_for_the_proxys_password() -> None:
    async with small_proxy("http") as small, listening(small.url) as proxy:
        small.login = LOGIN
        assert await say(proxy, post(NAME, 80, b"end")) == b""
        assert proxy.look()
        assert b"407" not in await say(proxy, connect(NAME, 443))


async def test_a_proxy_that_dies_is_noticed_while_idle_and_one_that_is_back_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(own_proxy, "LOOK_AGAIN_S", 0.05)
    async with serving() as origin, small_proxy("socks5") as small:
        small.hosts = {NAME: "127.0.0.1"}
        async with listening(small.url, f"https://{NAME}:{origin.port}/") as proxy:
            await proxy.check()
            taken = small.connections
            await eventually(lambda: proxy.look() or small.connections > taken + 1)
            assert proxy.look() is None
            assert small.asked == [f"{NAME}:{origin.port}"]  # by the check: the site does not hear of the looks
            small.stop()
            await eventually(proxy.look)
            async with small_proxy("socks5", port=small.port) as again:
                again.hosts = small.hosts
                await eventually(lambda: proxy.look() is None)


async def test_what_another_site_does_is_no_fault_of_the_proxy() -> None:
    async with small_proxy("http") as small, listening(small.url) as proxy:
        for reply in ("forbidden", "no name", "no proxy", "nothing"):
            small.reply = OWN_REPLIES[reply]
            assert b"502" in await say(proxy, connect("tracker.test", 443), until=b"\r\n\r\n")
            assert proxy.look() is None, reply


async def test_closing_it_ends_what_goes_through_it() -> None:
    async with serving() as origin, small_proxy("socks5") as small:
        small.hosts = {NAME: "127.0.0.1"}
        async with listening(small.url) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            writer.write(connect(NAME, origin.port))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        async with asyncio.timeout(HANG_LIMIT_S):
            assert await reader.read() == b""
        writer.close()


@given(data=st.binary(max_size=200), words=st.sampled_from([b"", b"CONNECT ", b"GET http://", b"\5\1\0", b"POST /"]))
def test_whatever_comes_is_a_request_to_a_host_or_an_error(data: bytes, words: bytes) -> None:
    """Never another exception: it would be a traceback in the log."""
    try:
        target = Request.parse(words + data + b" HTTP/1.1\r\n\r\n").target()
    except ValueError:
        return
    assert target.host
    assert 1 <= target.port <= 65535
    assert isinstance(target.is_loopback, bool)
    assert Target.of(str(target)) == target
