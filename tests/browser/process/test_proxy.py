"""The proxy and NO_PROXY in real browsers: the same hosts go directly in each of them."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar, get_args
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Error
from structlog.testing import capture_logs

from browser.errors import EngineMissing
from browser.process.browser_process import BrowserProcess
from browser.process.engine import Launch, camoufox_options, launch_options
from browser.process.proxy import WayOut, chromium_way_out, firefox_preferences, firefox_way_out, proxy_settings
from browser.settings import BrowserSettings, EngineName
from contract.proxies import parse_no_proxy

NO_PROXY = "plain.test,.dot.test *.star.test,10.0.0.0/8,192.0.2.7,fd00::/16,[fd01::1],port.test:81,[fd02::1]:81"
PROXIED = {
    "http://other.test/": "other.test:80",
    "https://other.test/": "other.test:443",
    "http://notplain.test/": "notplain.test:80",
    "http://port.test/": "port.test:80",
    "http://11.0.0.1/": "11.0.0.1:80",
    "http://[fd02::1]/": "fd02::1:80",
}
"""What goes through the proxy with NO_PROXY above, and what the proxy is then asked for."""
DIRECT = (
    "http://plain.test/",
    "https://sub.plain.test/",
    "http://dot.test/",
    "http://sub.star.test/",
    "http://10.1.2.3/",
    "http://192.0.2.7/",
    "http://[fd00::1]/",
    "http://[fd01::1]/",
    "http://port.test:81/",
    "http://[fd02::1]:81/",
    "http://169.254.9.9/",
    "http://127.0.0.9:81/",
)
"""Nothing is there; what counts is that the proxy does not hear of them."""


class Proxy(BaseHTTPRequestHandler):
    """Notes what it is asked for; it answers itself, and opens no tunnel."""

    asked: ClassVar[set[str]]

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        self._note(f"{target.hostname}:{target.port or 80}", 200)

    def do_CONNECT(self) -> None:
        self._note(self.path.replace("[", "").replace("]", ""), 502)

    def _note(self, target: str, status: int) -> None:
        self.asked.add(target)
        self.send_response(status)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"proxy")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Site(BaseHTTPRequestHandler):
    """A site that is reached directly."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"site")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def served(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1") -> Iterator[str]:
    server = ThreadingHTTPServer((host, 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(one.getsockname()[0])


async def visit(browser: Browser, address: str, timeout_s: float = 30) -> str:
    """Return what the page says, "" if there is none within the time."""
    page = await browser.new_page()
    try:
        await page.goto(address, timeout=timeout_s * 1000)
        return await page.inner_text("body")
    except Error:
        return ""
    finally:
        await page.close()


@pytest.mark.parametrize("engine", ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
async def test_each_browser_goes_by_the_one_meaning(tmp_path: Path, engine: EngineName) -> None:
    class Noting(Proxy):
        asked: ClassVar[set[str]] = set()

    own = own_address()
    with served(Noting) as proxy, served(Site, own) as site:
        settings = BrowserSettings(https_proxy=proxy, no_proxy=f"{NO_PROXY},{own}")
        process = BrowserProcess(engine=engine, headless=True, run_dir=tmp_path, settings=settings)
        browser = await process.start()
        assert await visit(browser, site) == "site"
        said = {address: await visit(browser, address) for address in PROXIED}
        assert said["http://other.test/"] == "proxy"
        assert set(PROXIED.values()) <= Noting.asked
        # Those in networks never answer; asking the proxy takes a fraction of that time.
        await asyncio.gather(*(visit(browser, address, 4) for address in DIRECT))
        await process.close()
    hosts = {urlsplit(address).hostname for address in DIRECT} | {urlsplit(site).hostname}
    assert {target for target in Noting.asked if target.rpartition(":")[0] in hosts} <= set(PROXIED.values())


def test_what_the_browsers_do_is_what_is_meant() -> None:
    direct = parse_no_proxy(NO_PROXY)
    assert not any(map(direct.covers, PROXIED))
    assert all(map(direct.covers, DIRECT))


def test_the_proxys_password_is_not_in_its_address() -> None:
    proxy = proxy_settings("chromium", BrowserSettings(https_proxy="http://me:p%40ss@[fd00::1]:3128"))
    assert proxy is not None
    assert {name: value for name, value in proxy.items() if name != "bypass"} == {
        "server": "http://[fd00::1]:3128",
        "username": "me",
        "password": "p@ss",
    }


@pytest.mark.parametrize(
    "settings", [BrowserSettings(), BrowserSettings(https_proxy="http://proxy:1", no_proxy="a.test, *")]
)
def test_without_a_proxy_there_are_no_proxy_settings(settings: BrowserSettings) -> None:
    assert proxy_settings("chromium", settings) is None
    assert firefox_preferences(settings) == {"network.proxy.type": 0}


@pytest.mark.parametrize("address", ["http://me:hunter2@proxy:3128", "https://proxy:3128"])
def test_firefox_refuses_a_proxy_that_it_cannot_use(address: str) -> None:
    with pytest.raises(EngineMissing, match="HTTPS_PROXY: Firefox") as caught:
        firefox_preferences(BrowserSettings(https_proxy=address))
    assert "hunter2" not in str(caught.value)


def test_camoufox_is_told_names_and_addresses_and_the_rest_is_logged() -> None:
    settings = BrowserSettings(https_proxy="http://proxy:1", no_proxy="a.test,10.1.2.3,10.0.0.0/8,b.test:81")
    with capture_logs() as lines:
        proxy = proxy_settings("camoufox", settings)
    assert proxy is not None
    assert proxy["bypass"] == "localhost,::1,a.test,10.1.2.3"
    assert [line["event"] for line in lines] == ["no_proxy_entry_ignored"] * 2


@pytest.mark.parametrize("engine", get_args(EngineName))
def test_a_logins_own_proxy_is_all_that_an_engine_is_told_of(
    monkeypatch: pytest.MonkeyPatch, engine: EngineName
) -> None:
    """Whatever the operator's proxy is, and what is reached without that."""
    monkeypatch.setattr("camoufox.utils.launch_options", lambda **options: {**options})
    settings = BrowserSettings(https_proxy="https://me:hunter2@proxy.test:3128", no_proxy="*,plain.test")
    plan = Launch(engine, Path("/c"), Path("/c"), True, {}, settings, WayOut(4001, 4002))
    options = camoufox_options(plan) if engine == "camoufox" else launch_options(plan)
    assert "proxy" not in options
    assert not {"hunter2", "proxy.test", "plain.test"} & set(re.split(r"[^\w.]+", str(options)))
    if engine == "chromium":
        assert "--proxy-server=http://127.0.0.1:4001" in options["args"]
        assert "--proxy-bypass-list=<-loopback>;127.0.0.1:4002" in options["args"]
        return
    told = options["firefox_user_prefs"]
    kinds = ("http", "ssl", "socks")
    assert [(told[f"network.proxy.{kind}"], told[f"network.proxy.{kind}_port"]) for kind in kinds] == [
        ("127.0.0.1", 4001)
    ] * 3
    assert told["network.proxy.no_proxies_on"] == "127.0.0.1:4002"
    assert told["network.proxy.failover_direct"] is False
    assert told["network.captive-portal-service.enabled"] is False


def test_a_browser_without_a_stream_port_reaches_nothing_directly() -> None:
    assert "--proxy-bypass-list=<-loopback>" in chromium_way_out(WayOut(4001, None))
    assert firefox_way_out(WayOut(4001, None))["network.proxy.no_proxies_on"] == ""
