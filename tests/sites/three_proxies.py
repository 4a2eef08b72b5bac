"""Run one coordinator with three logins, each on a site of its own behind a proxy of its own.

Prints as JSON what went where. To be run in namespaces of its own: `test_three_proxies.py` does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any, Final

import openai

from browser.site.load import SITES_DIR
from demo.site import DemoSite, serve
from tests.browser.profiles import cookie_state, write_profile
from tests.browser.way_out import real_proxies
from tests.browser.way_out.network import SITE, WORLD, Capture, Namespace, Packet, network
from tests.browser.way_out.real_proxies import PASSWORD, USER, RealProxy
from tests.e2e.fleet import Fleet, Site, eventually, fetch, fleet
from tests.sites.chat_app import ChatApp, chat_app
from tests.support.json_lines import json_lines

EVERYWHERE: Final = "0.0.0.0"
PATIENCE_S = 200.0
"""For what takes three browsers on a busy machine a minute."""
TRIES = 5
PROXIES: Final = {"demo": "squid", "chainlit": "tinyproxy", "gradio": "microsocks"}
MODELS: Final = {"demo": "demo-small", "chainlit": "chainlit", "gradio": "gradio"}
_numbers = count()


def host_of(name: str) -> str:
    """Return the site's name in that network."""
    return f"{name}.test"


@dataclass
class Login:
    """A login, named as its site, with the proxy that is its alone."""

    name: str
    port: int
    state: dict[str, Any]
    received: Callable[[], list[tuple[str, str]]]
    """The prompts that its site has got, each with the token of its answer."""
    proxy: RealProxy

    @property
    def at(self) -> str:
        """Host and port of its site."""
        return f"{host_of(self.name)}:{self.port}"

    def write(self, folder: Path) -> str:
        """Write its profile, its site file and its proxy's credentials; return its part of the fleet file."""
        for cookie in self.state["cookies"]:
            cookie["domain"] = host_of(self.name)
        write_profile(folder / f"active/{self.name}.json", self.state)
        file = folder / f"{self.name}.toml"
        text = (SITES_DIR / file.name).read_text()
        begin = text.index('url = "http://127.0.0.1:') + len('url = "')
        end = text.index("/", begin + len("http://"))
        file.write_text(f"{text[:begin]}http://{self.at}{text[end:]}")
        credentials = folder / f"{self.name}.proxy"
        credentials.write_text(f"{USER}:{PASSWORD}\n")
        credentials.chmod(0o600)
        return (
            f'[[login]]\nname = "{self.name}"\nsite = "{file}"\n'
            f'proxy = "{self.proxy.address}"\nproxy_credentials_file = "{credentials}"\n'
        )


def _of_demo(site: DemoSite, proxy: RealProxy) -> Login:
    return Login(
        "demo",
        int(site.url.rpartition(":")[2]),
        cookie_state(site),
        lambda: [(entry.prompt, entry.token) for entry in site.ledger.entries()],
        proxy,
    )


def _of_app(app: ChatApp, proxy: RealProxy) -> Login:
    return Login(
        app.name,
        app.port,
        app.log_in(),
        lambda: [(entry["prompt"], entry["token"]) for entry in app.entries() if "prompt" in entry],
        proxy,
    )


@dataclass
class Scenario:
    """What is done, in a thread of the browsers' network; the capture and the proxies are of the loop's thread."""

    logins: list[Login]
    capture: Capture
    loop: asyncio.AbstractEventLoop
    found: dict[str, Any] = field(default_factory=dict)

    def run(self, namespace: Namespace, engine: str, folder: Path) -> dict[str, Any]:
        """Serve; kill each proxy and start it again; return what went where."""
        (folder / "active").mkdir(mode=0o700)
        (folder / "fleet.toml").write_text("\n".join(login.write(folder) for login in self.logins))
        settings = {
            "CHAT_SITE": "",
            "SITE_URL": "",
            "FLEET_FILE": str(folder / "fleet.toml"),
            "BROWSER_ENGINE": engine,
            "START_TIMEOUT_S": str(PATIENCE_S),
            # A login's own proxy comes before these.
            "HTTPS_PROXY": "http://192.0.2.9:1",
            "NO_PROXY": "*",
        }
        nowhere = Site("", "")
        with fleet(nowhere, folder / "active", folder / "fleet", before=namespace.command, **settings) as running:
            running.wait_for(PATIENCE_S, **{login.name: "READY" for login in self.logins})
            self.found["answered"] = self._all_answer(running)
            self.found["killed"] = {login.name: self._killed(login, running) for login in self.logins}
            self.found["past"] = self._past()
            self.found["names"] = sorted(self.capture.names)
            self.found["asked_for"] = {login.name: sorted(login.proxy.asked_for()) for login in self.logins}
            self.found["sites"] = {login.name: login.at for login in self.logins}
        self.found["log"] = running.log.read_text()
        self.found["direct"] = {login.name: self._directly(login) for login in self.logins}
        return self.found

    def _killed(self, login: Login, running: Fleet) -> dict[str, Any]:
        """Kill the login's proxy and start it again; return what was seen meanwhile."""
        self._wait(login.proxy.kill())
        eventually(
            lambda: running.children()[login.name]["reason"] == "proxy_unreachable",
            timeout_s=PATIENCE_S,
            what=f"proxy_unreachable of {login.name}",
        )
        tried = Packet("tcp", WORLD, login.proxy.port)
        before = self.capture.packets[tried]
        seen = {
            "times": len(self._became(running, login, "UNHEALTHY")),
            "refused": self._ask(login, running),
            "others": {other.name: self._ask(other, running) for other in self.logins if other is not login},
        }
        eventually(lambda: self.capture.packets[tried] >= before + TRIES, timeout_s=PATIENCE_S, what=tried)
        # By now; a look that was under way when the proxy died saw something else.
        headers = {"authorization": f"Bearer {running.key}"}
        seen["detail"] = fetch(f"{running.url}/admin/children/{login.name}", headers=headers)[1]["detail"]
        seen["past"] = self._past()
        self._wait(login.proxy.start())
        running.wait_for(PATIENCE_S, **{each.name: "READY" for each in self.logins})
        seen["again"] = self._all_answer(running)
        seen["restarts"] = {name: child["restarts"] for name, child in running.children().items()}
        return seen

    def _became(self, running: Fleet, login: Login, state: str) -> list[dict[str, Any]]:
        return [
            event
            for event in json_lines(running.log)
            if event["event"] == "child_state" and (event["child"], event["new"]) == (login.name, state)
        ]

    def _all_answer(self, running: Fleet) -> dict[str, str]:
        return {login.name: self._ask(login, running) for login in self.logins}

    def _ask(self, login: Login, running: Fleet) -> str:
        """Ask for the model of the login's site; return which sites got it and have answered, or the error's code."""
        prompt = f"number {next(_numbers)} [[words=3]]"
        messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
        client = running.client(max_retries=0, timeout=PATIENCE_S)
        try:
            said = client.chat.completions.create(model=MODELS[login.name], messages=messages)
        except openai.APIStatusError as error:
            return str(error.code)
        answer = said.choices[0].message.content or ""
        reached = [
            (each.name, token in answer) for each in self.logins for asked, token in each.received() if asked == prompt
        ]
        return " ".join(name if is_its_own else f"not {name}" for name, is_its_own in reached)

    def _past(self) -> dict[str, int]:
        return self.capture.past(WORLD, *(login.proxy.port for login in self.logins))

    def _directly(self, login: Login) -> bool:
        """Ask the site past the proxies, as a browser there could; return whether it was seen."""
        connection = HTTPConnection(SITE, login.port, timeout=PATIENCE_S)
        connection.request("GET", "/")
        connection.getresponse().close()
        return bool(eventually(lambda: self._past().get(f"tcp {SITE} {login.port}"), timeout_s=PATIENCE_S))

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)


async def main(engine: str, folder: Path) -> None:
    """Do all of it."""
    folder.chmod(0o777)  # squid has a user of its own
    names = tuple(host_of(name) for name in PROXIES)
    with network(folder, names) as (namespace, capture), ExitStack() as stack:
        proxies = {name: real_proxies.ALL[proxy](folder, WORLD) for name, proxy in PROXIES.items()}
        logins = []
        for name in ("chainlit", "gradio"):
            (folder / name).mkdir()
            app = await asyncio.to_thread(stack.enter_context, chat_app(name, folder / name, host=EVERYWHERE))
            logins.append(_of_app(app, proxies[name]))
        async with serve(host=EVERYWHERE) as site:
            logins.append(_of_demo(site, proxies["demo"]))
            try:
                for proxy in proxies.values():
                    await proxy.start()
                scenario = Scenario(logins, capture, asyncio.get_running_loop())
                found = await namespace.call(lambda: scenario.run(namespace, engine, folder))
            finally:
                for proxy in proxies.values():
                    await proxy.kill()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
