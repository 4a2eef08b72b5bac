"""`launch_camoufox.py --login`: a person logs in in a real window, and the login is saved, or is not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from browser.errors import SavePlaceError
from browser.page.login import CLOSED, IN_MEMORY, LoginPlan, check_destination
from browser.settings import BrowserSettings
from browser.site.load import load_site
from contract.exit_codes import ExitCode
from contract.files import create_private
from contract.processes import ProcessIdentity
from demo.site import DemoSite
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, demo_file
from tests.browser.login_page import BY_STEPS, LOGIN, NOTHING, WITHOUT, LoginSite, login_site
from tests.browser.profiles import write_profile
from tests.browser.small_proxy import small_proxy
from tests.support.display import Person, display

ROOT = Path(__file__).resolve().parents[3]
HANG_S = 60.0
TRIES = 3
PATIENCE_S = 15.0
LOGIN_PAGE = "Log in · Demo Chat"


@pytest.fixture
async def person() -> AsyncIterator[Person]:
    async with display() as someone:
        yield someone


@dataclass
class Login:
    """The program, running; its run folder is in `folder`."""

    process: asyncio.subprocess.Process
    folder: Path

    async def is_open(self) -> list[str]:
        """Return the lines that the person is told once the page can be seen."""
        assert self.process.stdout
        async with asyncio.timeout(HANG_S):
            return [(await self.process.stdout.readline()).decode() for _ in range(2)]

    async def ended(self) -> tuple[int | None, str, str]:
        """Wait for its end; nothing of it may be left. Returns its code, and what it said since."""
        out, error = await asyncio.wait_for(self.process.communicate(), HANG_S)
        assert list(self.folder.glob("tabfleet-*")) == []
        return self.process.returncode, out.decode(), error.decode()

    def browser(self) -> int:
        """The browser's process id."""
        (pid_file,) = self.folder.glob("tabfleet-*/browser.pid")
        return int(pid_file.read_text())


Start = Callable[..., Awaitable[Login]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the program; what still runs in the end is killed."""
    running = []

    async def start_it(
        url: str, save: Path, *flags: str, on: Person | None = None, site: str = "demo", engine: str = "chromium"
    ) -> Login:
        environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
        environment |= {"SITE_URL": url, "TMPDIR": str(tmp_path)} | ({"DISPLAY": on.display} if on else {})
        arguments = ["--engine", engine, "--site", site, "--save", str(save), *flags]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "launch_camoufox.py", "--login", *arguments),
            cwd=ROOT,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        running.append(process)
        return Login(process, tmp_path)

    yield start_it
    for process in running:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def log_in(login: Login, person: Person, url: str, name: str, password: str) -> None:
    """Log in as a person does: one who was too quick for a page that was still loading opens it again, and waits."""
    for earlier in range(TRIES):
        await person.sees(LOGIN_PAGE)
        await asyncio.sleep(3 * earlier)  # the window has its title before the page has its focus
        await person.types(name)
        await person.presses("Tab")
        await person.types(password)
        await person.presses("Return")
        with suppress(TimeoutError):
            await asyncio.wait_for(login.process.wait(), PATIENCE_S)
            return
        await person.presses("ctrl+l")
        await person.types(url)
        await person.presses("Return")


async def test_a_login_by_cookie(start: Start, tmp_path: Path, person: Person, demo: DemoSite, pages: Pages) -> None:
    saved = tmp_path / "new" / "folder" / "ada.json"
    login = await start(demo.url, saved, on=person)
    told = "".join(await login.is_open())
    assert f"Log in to {demo.url}/chat in the window" in told
    await log_in(login, person, f"{demo.url}/chat", "ada", "lovelace")
    code, out, error = await login.ended()
    assert (code, error) == (ExitCode.STOPPED, "")
    assert out.startswith(f"Saved: {saved} (cookies: 1, origins with localStorage: 0, valid until 20")
    assert f"python -m browser.check demo --active-auth-json {saved} --engine chromium\n" in out
    assert "A new browser was opened with it, and is logged in.\n" in out
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in saved.parents][:2] == [0o700, 0o700]
    assert list(saved.parent.iterdir()) == [saved]
    state = json.loads(saved.read_text())
    assert state["cookies"][0]["value"] not in told + out
    page = await pages.open(demo_file(demo), state)
    check_answer(await ask(page, "hello"), "hello", last(demo))
    assert last(demo).account == "ada"


@pytest.mark.firefox
async def test_a_login_in_local_storage_in_place_of_an_older_one(
    start: Start, tmp_path: Path, person: Person, demo: DemoSite, pages: Pages
) -> None:
    saved = tmp_path / "grace.json"
    saved.write_text("old")
    login = await start(f"{demo.url}/token/chat", saved, "--replace", on=person)
    await login.is_open()
    assert saved.read_text() == "old"
    await log_in(login, person, f"{demo.url}/token/chat", "grace", "hopper")
    code, out, _ = await login.ended()
    assert code == ExitCode.STOPPED
    assert "origins with localStorage: 1)" in out
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    page = await pages.open(demo_file(demo, "/token/chat"), json.loads(saved.read_text()))
    assert page.status.ready


async def test_closing_the_window_saves_nothing(start: Start, tmp_path: Path, person: Person, demo: DemoSite) -> None:
    saved = tmp_path / "ada.json"
    login = await start(demo.url, saved, on=person)
    await login.is_open()
    await person.sees(LOGIN_PAGE)
    await person.presses("ctrl+w")
    code, out, error = await login.ended()
    assert (code, out) == (ExitCode.FAILED, "")
    assert error == f"launch_camoufox.py: {CLOSED}\n"
    assert not saved.exists()


async def test_ctrl_c_saves_nothing(start: Start, tmp_path: Path, person: Person, demo: DemoSite) -> None:
    login = await start(demo.url, tmp_path / "ada.json", on=person)
    await login.is_open()
    browser = login.browser()
    login.process.send_signal(signal.SIGINT)
    assert await login.ended() == (ExitCode.INTERRUPTED, "", "launch_camoufox.py: interrupted; nothing was saved\n")
    assert ProcessIdentity.of(browser) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.firefox
async def test_a_browser_that_dies_saves_nothing(start: Start, tmp_path: Path, person: Person, demo: DemoSite) -> None:
    login = await start(demo.url, tmp_path / "ada.json", on=person)
    await login.is_open()
    os.killpg(login.browser(), signal.SIGKILL)
    assert await login.ended() == (ExitCode.FAILED, "", f"launch_camoufox.py: {CLOSED}\n")


@pytest.mark.firefox
async def test_firefox(start: Start, tmp_path: Path, person: Person, demo: DemoSite) -> None:
    saved = tmp_path / "ada.json"
    login = await start(demo.url, saved, on=person, engine="firefox")
    await login.is_open()
    await log_in(login, person, f"{demo.url}/chat", "ada", "lovelace")
    assert (await login.ended())[0] == ExitCode.STOPPED
    (cookie,) = json.loads(saved.read_text())["cookies"]
    assert demo.sessions.find(cookie["value"], "cookie")


async def test_a_browser_without_a_display(start: Start, tmp_path: Path, demo: DemoSite) -> None:
    code, _, error = await (await start(demo.url, tmp_path / "ada.json")).ended()
    assert code == ExitCode.NO_BROWSER
    assert error.startswith("launch_camoufox.py: there is no display to show a browser on (neither DISPLAY nor")
    assert "run this on a computer with a screen and copy the file" in error
    code, _, error = await (await start(demo.url, tmp_path / "ada.json", on=Person(":9999"))).ended()
    assert code == ExitCode.NO_BROWSER
    assert error.startswith("launch_camoufox.py: there is no display to show a browser on; set DISPLAY")
    assert list(tmp_path.iterdir()) == []


async def test_an_existing_file_is_kept_without_replace(start: Start, tmp_path: Path, demo: DemoSite) -> None:
    there = tmp_path / "ada.json"
    there.write_text("old")
    code, _, error = await (await start(demo.url, there)).ended()
    assert code == ExitCode.USAGE
    assert error == (
        f"launch_camoufox.py: --save {there}: is there already; give another name, or --replace to replace it\n"
    )
    assert there.read_text() == "old"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("login.txt", "must be a name that ends in .json"),
        (".json", "must be a name that ends in .json"),
        (".hidden.json", "must be a name that ends in .json"),
        ("file/login.json", "its folder cannot be made: File exists"),
        ("folder.json", "cannot be written to"),
        ("broken.json", "is there already"),
    ],
)
def test_paths_that_cannot_be_saved_to(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "broken.json").symlink_to("nowhere")
    replace = name == "folder.json"
    plan = LoginPlan(load_site("demo"), tmp_path / name, replace, "chromium", BrowserSettings())
    with pytest.raises(SavePlaceError, match=re.escape(f"--save {tmp_path / name}: {says}")):
        check_destination(plan)


def test_a_file_created_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ada.json"
    path.write_text("old")
    with pytest.raises(FileExistsError):
        create_private(path, b"new")
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "old")]


PAGE = """<!doctype html><meta charset=utf-8><title>Odd Login</title>
<p id=out>press a key</p><p id=in hidden>welcome</p>
<script>
const mode = location.pathname.slice(1);
const enter = () => { document.title = "Odd Chat"; document.querySelector("#in").hidden = false; };
if (mode === "already" || localStorage.getItem("key")) enter();
addEventListener("storage", enter);
addEventListener("keydown", () => {
  if (mode === "elsewhere") open("/popup", "", "width=400,height=300");
  else enter();
});
</script>"""
POPUP = """<!doctype html><title>Odd Popup</title><p id=out>press a key</p><script>
addEventListener("keydown", () => { localStorage.setItem("key", "open sesame"); close(); });
</script>"""
SITE = """
name = "odd"
url = "http://odd.test/"
login = { logged_in = [{ selector = "#in" }] }
fresh_chat = { actions = [{ goto = "/" }] }
input = { selector = "#i" }
send = { actions = [{ press = "Enter" }] }
capture.dom = { answer = "#a", done = "#d" }
models = [{ name = "odd" }]
"""


@asynccontextmanager
async def odd_page() -> AsyncIterator[str]:
    """Serve a page that is logged in after a key press without storing it, by a popup, or at once."""

    async def show(request: web.Request) -> web.Response:
        return web.Response(text=POPUP if request.path == "/popup" else PAGE, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/{mode}", show)])
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def odd_site(folder: Path) -> str:
    file = folder / "odd.toml"
    file.write_text(SITE)
    return str(file)


@pytest.mark.firefox
async def test_a_login_in_a_popup(start: Start, tmp_path: Path, person: Person) -> None:
    saved = tmp_path / "me.json"
    async with odd_page() as url:
        login = await start(f"{url}/elsewhere", saved, on=person, site=odd_site(tmp_path))
        await login.is_open()
        await person.sees("Odd Login")
        await person.presses("l")
        await person.sees("Odd Popup")
        await person.presses("y")
        assert (await login.ended())[0] == ExitCode.STOPPED
        (origin,) = json.loads(saved.read_text())["origins"]
        assert origin == {"origin": url, "localStorage": [{"name": "key", "value": "open sesame"}]}


@pytest.mark.firefox
async def test_a_login_that_no_file_can_hold(start: Start, tmp_path: Path, person: Person) -> None:
    async with odd_page() as url:
        login = await start(f"{url}/here", tmp_path / "me.json", on=person, site=odd_site(tmp_path))
        await login.is_open()
        await person.sees("Odd Login")
        await person.presses("l")
        code, _, error = await login.ended()
    assert code == ExitCode.FAILED
    assert error == f"launch_camoufox.py: {IN_MEMORY}\n"
    assert not (tmp_path / "me.json").exists()


@pytest.mark.firefox
async def test_a_page_that_counts_as_logged_in_when_nobody_is(start: Start, tmp_path: Path, person: Person) -> None:
    async with odd_page() as url:
        login = await start(f"{url}/already", tmp_path / "me.json", on=person, site=odd_site(tmp_path))
        code, out, error = await login.ended()
    assert (code, out) == (ExitCode.FAILED, "")
    assert "counts as logged in although nobody has logged in (site file: login.logged_in)" in error


def login_file(folder: Path, site: LoginSite, mode: str, login: str = BY_STEPS) -> str:
    file = folder / "memory.toml"
    file.write_text(site.text(mode, login))
    return str(file)


async def test_where_there_is_no_login_an_empty_profile_is_saved_and_no_browser_opened(
    start: Start, tmp_path: Path
) -> None:
    saved, site = tmp_path / "one.json", LoginSite("http://127.0.0.1:9")
    login = await start("", saved, site=login_file(tmp_path, site, "none", WITHOUT))
    code, out, error = await login.ended()
    assert (code, error) == (ExitCode.STOPPED, "")
    assert out.startswith("There is nothing to log into (site file: login.none).")
    assert json.loads(saved.read_text()) == NOTHING
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("mode", "engine"),
    [
        # Where a login is kept is tests/browser/page/test_storage.py's; here it decides only what is said.
        pytest.param("memory", "chromium", marks=pytest.mark.slow),
        pytest.param("cookie", "chromium", marks=pytest.mark.slow),
        ("database", "chromium"),
        pytest.param("database", "firefox", marks=pytest.mark.firefox),
    ],
)
async def test_a_login_by_steps_needs_no_display_and_is_tried_in_a_new_browser(
    start: Start, tmp_path: Path, mode: str, engine: str
) -> None:
    holds = mode != "memory"
    in_memory, kept_by_browser = "each start logs in anew, by login.steps", "A new browser was opened with it"
    saved = write_profile(tmp_path / "me.json", {"secrets": LOGIN})
    async with login_site() as site:
        async with small_proxy("http") as small:
            (tmp_path / "proxy").write_text(small.url)
            flags = ("--replace", "--proxy-file", str(tmp_path / "proxy"))
            login = await start("", saved, *flags, site=login_file(tmp_path, site, mode), engine=engine)
            code, out, error = await login.ended()
        assert (code, error) == (ExitCode.STOPPED, ""), error
        assert f"--proxy-file {tmp_path / 'proxy'}" in out  # of the command that tries it out
        heads = b"".join(small.heads)
        assert f"POST {site.url}/login".encode() in heads
        assert (kept_by_browser in out, in_memory in out) == (holds, not holds)
        assert site.logins == [True]
        kept = json.loads(saved.read_text())
        assert kept["secrets"] == LOGIN
        assert any(token in saved.read_text() for token in site.tokens) == holds
        assert not [secret for secret in (*LOGIN.values(), *site.tokens) if secret in out + error]


async def test_a_login_by_steps_that_is_not_taken_saves_nothing(start: Start, tmp_path: Path) -> None:
    before = {"secrets": {**LOGIN, "password": "wrong"}}
    saved = write_profile(tmp_path / "me.json", before)
    async with login_site() as site:
        file = Path(login_file(tmp_path, site, "memory"))
        file.write_text(f"{file.read_text()}\n[readiness]\ntimeout_s = 2\n")
        code, _, error = await (await start("", saved, "--replace", site=str(file))).ended()
        assert site.logins == [False]
    assert code == ExitCode.FAILED
    assert error == "launch_camoufox.py: the page is still logged out after login.steps; nothing was saved\n"
    assert json.loads(saved.read_text()) == before
