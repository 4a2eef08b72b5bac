"""Run a child behind a proxy, or without one, and print as JSON what went where.

To be run in namespaces of its own: `test_way_out.py` does.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import child_environment
from contract.child_api import TOKEN_HEADER
from contract.site_check import CHECK_PATH
from contract.surroundings import Surroundings, write_surroundings
from tests.browser.way_out import real_proxies, restless_page
from tests.browser.way_out.network import SITE, WORLD, Capture, Namespace, Packet, network
from tests.browser.way_out.real_proxies import NO_PROXY, PASSWORD, RealProxy
from tests.browser.way_out.restless_page import NAME, RestlessSite
from tests.support.authority import Authority
from tests.support.waiting import eventually

PORT, STREAM_PORT, LOOPBACK_PORT = 18000, 18001, 18002
PATIENCE_S = 120.0
"""For what takes a browser on a busy machine some seconds."""
TRIES = 60
TOKEN = "the-token"


class Child:
    """`launch_camoufox.py` in the browser's namespace."""

    def __init__(self, namespace: Namespace, folder: Path, engine: str, proxy: str | None) -> None:
        self._namespace = namespace
        run_dir = folder / "run"
        run_dir.mkdir(mode=0o700)
        write_surroundings(run_dir, Surroundings(proxy=proxy))
        self._site_file = restless_page.write_site_file(folder)
        profile = folder / "profile.json"
        profile.write_text('{"cookies": [], "origins": []}')
        self.log = folder / "child.log"
        command = [
            *(*namespace.command, sys.executable, "launch_camoufox.py", "--engine", engine),
            *("--site", str(self._site_file), "--active-auth-json", str(profile)),
            *("--server-port", str(PORT), "--stream-port", str(STREAM_PORT)),
        ]
        environment = os.environ | {
            child_environment.RUN_DIR: str(run_dir),
            child_environment.CONTROL_TOKEN: TOKEN,
            "EXTRA_CA_FILE": str(folder.parent / "ca.pem"),
            # A login's own proxy comes before these, and without one they must not be in the way.
            **({"HTTPS_PROXY": "http://192.0.2.9:1", "NO_PROXY": "*"} if proxy else {}),
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    async def _ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        def ask() -> tuple[int, Any]:
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE_S)
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"content-type": "application/json", TOKEN_HEADER: TOKEN})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        return await self._namespace.call(ask)

    async def wait_for(self, reason: str | None) -> dict[str, Any]:
        """Wait until /ready says this, and return its body."""
        said: dict[str, Any] = {}

        async def says() -> bool:
            nonlocal said
            with suppress(OSError):
                said = (await self._ask("GET", "/ready"))[1]
            return bool(said) and said["reason"] == reason

        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await says():  # noqa: ASYNC110 - it is another process that changes
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise RuntimeError(f"never {reason}: {said}; {self.log.read_text()[-2000:]}") from None
        return said

    async def ask(self, prompt: str) -> str:
        """Return the page's answer, or the error's code."""
        body = {"model": "restless", "messages": [{"role": "user", "content": prompt}]}
        status, said = await self._ask("POST", "/v1/chat/completions", body)
        return str(said["choices"][0]["message"]["content"] if status == 200 else said["error"]["code"])

    async def check(self) -> str:
        """Have the site file checked in a tab beside the page; return the outcome and what is said of it."""
        body = {"file": self._site_file.name, "text": self._site_file.read_text()}
        async with asyncio.timeout(PATIENCE_S):
            while True:
                said = (await self._ask("POST", CHECK_PATH, body))[1]
                if said["message"] != "the page is in use":  # it is being cleared after an answer
                    return f"{said['outcome']} {said['message']}".strip()
                await asyncio.sleep(0.1)

    def end(self) -> None:
        """End it, and the browser with it."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(frozen=True)
class World:
    """What one child has around it."""

    folder: Path
    namespace: Namespace
    capture: Capture
    site: RestlessSite


async def behind(proxy: RealProxy, engine: str, world: World) -> dict[str, Any]:
    """Serve with a proxy, kill it, and start it again; return what went where."""
    host, port = WORLD, proxy.port
    capture, site = world.capture, world.site
    await proxy.start()
    child = Child(world.namespace, world.folder, engine, proxy.url)
    try:
        await child.wait_for(None)
        answer = await child.ask("hello")
        ways = ("/fetch", "/beacon", "/form", "/socket", "/events", "/worker.js", "/from-worker", "/image")
        await eventually(lambda: all(site.paths[way] for way in ways), timeout_s=PATIENCE_S, what=lambda: site.paths)
        checked = await child.check()
        working = capture.past(host, port)
        peers = sorted(site.peers)
        exposed = _with_password()

        await proxy.kill()
        away = await child.wait_for("proxy_unreachable")
        refused = await child.ask("nobody hears this")
        capture.packets.clear()
        tried = Packet("tcp", host, port)
        await eventually(lambda: capture.packets[tried] >= TRIES, timeout_s=PATIENCE_S, what=lambda: capture.packets)
        killed = capture.past(host, port)

        await proxy.start()
        await child.wait_for(None)
        return {
            "answer": answer,
            "checked": checked,
            "prompts": site.prompts,
            "peers": peers,
            "exposed": exposed,
            "candidates": sorted(site.candidates),
            "asked_for": sorted(proxy.asked_for()),
            "past_it": working,
            "names": sorted(capture.names),
            "away": away["detail"],
            "refused": refused,
            "past_it_when_killed": killed,
            "answer_again": await child.ask("again"),
            "past_it_in_all": capture.past(host, port),
            "log": child.log.read_text(),
        }
    finally:
        child.end()
        await proxy.kill()


def _with_password() -> list[str]:
    """Return the processes of child and browser whose command line or environment holds the proxy's password."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            name = (folder / "comm").read_text().strip()
            if PASSWORD.encode() in text and name not in ("squid", "basic_ncsa_auth", "tinyproxy", "microsocks"):
                found.append(name)
    return found


async def without(engine: str, world: World) -> list[str]:
    """Serve without a proxy, and return the kinds of packets that were seen: those that the proxy must keep back."""
    capture = world.capture
    child = Child(world.namespace, world.folder, engine, None)
    try:
        await child.wait_for(None)
        kinds = {("udp", 53), ("tcp", 443), ("udp", 3478)}
        await eventually(
            lambda: kinds <= {(packet.protocol, packet.port) for packet in capture.packets},
            timeout_s=PATIENCE_S,
            what=lambda: capture.packets,
        )
        return sorted(f"{packet.protocol} {packet.address} {packet.port}" for packet in capture.packets)
    finally:
        child.end()


async def main(engine: str, folder: Path, proxy: str) -> None:
    """Do all of it."""
    folder.chmod(0o777)  # squid has a user of its own
    authority = Authority(folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificates = [authority.sign(NAME), authority.sign(SITE)]
    tls.load_cert_chain(*certificates[0])
    by_address = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    by_address.load_cert_chain(*certificates[1])

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:  # an address has no name of its own there (RFC 6066)
            connection.context = by_address

    tls.sni_callback = choose
    own = folder / proxy
    own.mkdir()
    async with restless_page.serve(SITE, tls, LOOPBACK_PORT) as site:
        with network(folder, (NAME,)) as (namespace, capture):
            world = World(own, namespace, capture, site)
            if proxy == NO_PROXY:
                found: object = await without(engine, world)
            else:
                found = await behind(real_proxies.ALL[proxy](folder, WORLD), engine, world)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
