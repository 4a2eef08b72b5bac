"""Each step that a site file may name, in real browsers: the events that the page gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Error, Page

from browser.errors import PageBroken
from browser.page.tab import Tab
from browser.process.browser_process import BrowserProcess
from browser.settings import BrowserSettings, EngineName
from browser.site.load import parse_site
from browser.site.schema import Action
from browser.site.values import KEYS, key_to_press
from tests.support.waiting import HANG_LIMIT_S

PAGE = """<!doctype html><meta charset=utf-8><title>steps</title>
<div id=overlay hidden style="position: fixed; inset: 0; background: white"><button id=close>No, thanks</button></div>
<textarea id=input></textarea> <input id=other>
<button id=new>New chat</button> <button id=later hidden>Later</button> <button id=off disabled>Off</button>
<button id=delete>Delete</button> <button id=ask>Ask</button>
<dialog id=sure><button id=yes>Yes, delete</button></dialog>
<select id=model><option value=s>Small</option><option value=l>Large</option></select>
<button id=menu>model</button>
<ul id=models hidden><li role=option>tiny</li><li role=option>huge</li></ul>
<script>
const find = (id) => document.getElementById(id);
window.seen = [];
const note = (...what) => window.seen.push(what.join(" "));
for (const kind of ["click", "keydown", "change"]) {
  document.addEventListener(kind, ({ target, key, isTrusted }) => {
    if (kind !== "change" || target.id === "model") note(kind, key || target.id, target.id, isTrusted);
  }, true);
}
if (location.search === "?overlay") find("overlay").hidden = false;
find("close").onclick = () => find("overlay").remove();
find("delete").onclick = () => note("confirmed", confirm("Delete the conversation?"));
find("ask").onclick = () => find("sure").showModal();
find("yes").onclick = () => find("sure").close();
find("menu").onclick = () => { find("models").hidden = false; };
find("models").onclick = ({ target }) => {
  find("menu").textContent = target.textContent;
  find("models").hidden = true;
};
find("new").onclick = () => setTimeout(() => { find("later").hidden = false; }, 100);
find("later").onclick = () => setTimeout(() => { find("later").hidden = true; }, 100);
</script>"""

SITE = """
name = "steps"
url = "{url}/"
login.logged_in = [{{ selector = "#new" }}]
fresh_chat.actions = [{{ click = "#new" }}]
input.selector = "#input"
send.actions = [{{ press = "Enter" }}]
[capture.dom]
answer = ".answer"
done = ".done"
[[models]]
name = "huge"
"""


@pytest.fixture(scope="module", params=["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
async def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    engine: EngineName = request.param
    process = BrowserProcess(
        engine=engine, headless=True, run_dir=tmp_path_factory.mktemp("run"), settings=BrowserSettings()
    )
    yield await process.start()
    await process.close()


@pytest.fixture(scope="module")
async def url() -> AsyncIterator[str]:
    async def show(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/{name:.*}", show)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def tab(browser: Browser, url: str) -> AsyncIterator[Tab]:
    page = await browser.new_page()
    await page.goto(url)
    yield Tab(page, parse_site(SITE.format(url=url), "steps.toml"))
    await page.close()


async def do(tab: Tab, *steps: dict[str, Any]) -> list[str]:
    """Do the steps as a site file's; return what the page saw of them."""
    await tab.run(tuple(Action.model_validate(step) for step in steps), model="huge")
    seen: list[str] = await tab.page.evaluate("window.seen")
    return seen


async def text(page: Page, selector: str) -> str:
    return await page.locator(selector).inner_text()


async def test_goto(tab: Tab, url: str) -> None:
    await do(tab, {"goto": "elsewhere?x=1"})
    assert tab.page.url == f"{url}/elsewhere?x=1"


async def test_click_sends_trusted_events(tab: Tab) -> None:
    assert await do(tab, {"click": "#new"}) == ["click new new true"]


async def test_click_by_text(tab: Tab) -> None:
    assert await do(tab, {"click": "text=New chat"}) == ["click new new true"]


async def test_click_waits_for_its_element(tab: Tab) -> None:
    assert await do(tab, {"click": "#new"}, {"click": "#later"}) == ["click new new true", "click later later true"]


async def test_a_click_that_times_out_is_named(tab: Tab) -> None:
    with pytest.raises(PageBroken, match=r"the step click = '#off', timeout_s = 0\.2 took too long"):
        await do(tab, {"click": "#off", "timeout_s": 0.2})


async def test_the_keys_that_a_file_may_name_are_those_that_can_be_pressed(tab: Tab) -> None:
    await tab.page.locator("#input").focus()
    for key in sorted(KEYS):
        await tab.page.keyboard.down(key)
        await tab.page.keyboard.up(key)
    for key in ("Return", "Esc", "Ctrl", "enter", "F25", "é"):
        with pytest.raises(Error, match="Unknown key"):
            await tab.page.keyboard.press(key)
        with pytest.raises(ValueError, match="there is no key"):
            key_to_press(key)


async def test_press_goes_to_the_input(tab: Tab) -> None:
    assert await do(tab, {"press": "Enter"}) == ["keydown Enter input true"]


async def test_press_on_something_else(tab: Tab) -> None:
    assert await do(tab, {"press": "Control+k", "on": "#other"}) == [
        "keydown Control other true",
        "keydown k other true",
    ]


async def test_wait_for_and_wait_gone(tab: Tab) -> None:
    await do(tab, {"click": "#new"}, {"wait_for": "#later"})
    assert await tab.page.locator("#later").is_visible()
    await do(tab, {"click": "#later"}, {"wait_gone": "#later"})
    assert not await tab.page.locator("#later").is_visible()


async def test_fill(tab: Tab) -> None:
    await do(tab, {"fill": "#other", "value": "for {model}"})
    assert await tab.page.locator("#other").input_value() == "for huge"


@pytest.mark.parametrize("value", ["l", "Large"])
async def test_select_by_value_or_label(tab: Tab, value: str) -> None:
    seen = await do(tab, {"select": "#model", "value": value})
    assert [entry.split()[0] for entry in seen] == ["change"]
    assert await tab.page.locator("#model").input_value() == "l"


async def test_a_model_from_a_menu(tab: Tab) -> None:
    await do(tab, {"click": "#menu"}, {"click": "li:text-is('{model}')"})
    assert await text(tab.page, "#menu") == "huge"


async def test_an_overlay_is_dismissed_if_it_is_there(tab: Tab) -> None:
    dismiss = {"dismiss": "#close"}
    assert await do(tab, dismiss, {"click": "#new"}) == ["click new new true"]
    seen = await do(tab, {"goto": "/?overlay"}, dismiss, {"click": "#new"})
    assert seen == ["click close close true", "click new new true"]


async def test_an_overlay_that_is_not_dismissed_blocks_clicks(tab: Tab) -> None:
    with pytest.raises(PageBroken, match="took too long"):
        await do(tab, {"goto": "/?overlay"}, {"click": "#new", "timeout_s": 0.2})


@pytest.mark.parametrize(("answer", "confirmed"), [("accept", "true"), ("dismiss", "false")])
async def test_a_browser_dialog_is_answered(tab: Tab, answer: str, confirmed: str) -> None:
    seen = await do(tab, {"click": "#delete", "dialog": answer})
    assert seen == ["click delete delete true", f"confirmed {confirmed}"]


async def test_an_unexpected_browser_dialog_is_dismissed(tab: Tab) -> None:
    await do(tab, {"click": "#delete", "dialog": "accept"})
    assert (await do(tab, {"click": "#delete"}))[-1] == "confirmed false"


async def test_a_dialog_element_is_confirmed_by_a_click(tab: Tab) -> None:
    await do(tab, {"click": "#ask"}, {"click": "text=Yes, delete"}, {"wait_gone": "#sure"})
    assert not await tab.page.locator("#sure").is_visible()


WRITTEN = "document.open(); document.write('nothing'); document.close()"


async def test_a_look_sees_each_document_that_takes_the_place_of_another(tab: Tab, url: str) -> None:
    """What looks at the page is kept from look to look, but never beyond its document."""

    async def usable() -> bool:
        seen = await tab.look()
        return seen is not None and seen.usable

    for _ in range(2):
        assert await usable()
        await tab.page.evaluate("document.querySelector('#new').remove()")
        assert not await usable()
        await tab.page.reload()
        assert await usable()
        await tab.page.evaluate(WRITTEN)
        assert not await usable()
        await tab.page.goto("about:blank")
        assert not await usable()
        await tab.page.goto(url)
        assert await tab.wait_until(lambda seen: seen.usable, HANG_LIMIT_S)


async def test_looks_while_documents_change_never_fail(tab: Tab) -> None:
    """A look may fall between two documents, and is then none; it is no error, and the next one sees the page."""
    for _ in range(20):
        looks = asyncio.ensure_future(tab.look())
        await tab.page.reload()
        await looks
    assert await tab.wait_until(lambda seen: seen.usable, HANG_LIMIT_S)
