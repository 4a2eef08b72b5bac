"""Images that go with a prompt, from memory into a real page; their digests are compared with the site's ledger."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from pathlib import Path
from typing import get_args

import pytest
from playwright.async_api import Route

from browser.errors import BrowserError, PageBroken, PromptRejected, SiteFailed
from browser.page.chat_page import ChatPage
from browser.page.images import Image, ImageLimits, MediaType
from browser.page.tab import Tab
from browser.page.upload import upload_images
from demo.images import ImageRecord
from demo.site import DemoSite, SiteOptions
from tests.browser.asking import ask, check_answer, last
from tests.browser.conftest import Pages, SharedBrowser, demo_file, lasting_page, tab_of
from tests.browser.profiles import cookie_state
from tests.support.pictures import image
from tests.support.waiting import eventually

ALL = [image(kind, mark=f"mark of {kind}".encode()) for kind in get_args(MediaType)]
PASTE = {"selector": 'selector = "[data-testid=files]"|selector = "[data-testid=prompt]"\nmethod = "paste"'}
SITE_LIMIT_BYTES = 3_000_000
CANARY = b"canary that is nowhere on disk"


demo, folder, page = lasting_page(SiteOptions(max_body_bytes=SITE_LIMIT_BYTES))


def notes(images: list[Image]) -> tuple[ImageRecord, ...]:
    return tuple(ImageRecord(one.media_type, len(one.data), hashlib.sha256(one.data).hexdigest()) for one in images)


async def ask_with(page: ChatPage, images: list[Image]) -> str:
    return "".join([piece async for piece in page.ask("a", "What is this?", "demo-small", images)])


async def check(page: ChatPage, demo: DemoSite, images: list[Image]) -> None:
    answer = await ask_with(page, images)
    check_answer(answer, "What is this?", last(demo))
    assert last(demo).images == notes(images)
    assert all(f"image-sha256:{note.sha256}" in answer for note in notes(images))


async def check_next_has_none(page: ChatPage, demo: DemoSite) -> None:
    check_answer(await ask(page, "next"), "next", last(demo))
    assert last(demo).images == ()


async def idle_tab(page: ChatPage) -> Tab:
    """The tab, once nothing is being done with it any more."""
    await eventually(lambda: page.status.ready and not page.busy, timeout_s=30)
    return tab_of(page)


async def test_every_byte_of_every_type_arrives_in_order(page: ChatPage, demo: DemoSite) -> None:
    assert page.image_limits == ImageLimits(10, 5 * 1024 * 1024)
    await check(page, demo, ALL)
    await check_next_has_none(page, demo)
    await check(page, demo, [image(size=2, mark=bytes(range(1, 256)) * 8000)])


async def test_a_file_input_that_takes_one_file_gets_one_after_the_other(page: ChatPage, demo: DemoSite) -> None:
    tab = await idle_tab(page)
    await tab.page.evaluate("document.querySelector('[data-testid=files]').multiple = false")
    await check(page, demo, ALL[:2])


class HeldUpload:
    """Holds the page's upload until it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()

    async def hold(self, route: Route) -> None:
        self.begun.set()
        await self.let_go.wait()
        await route.continue_()


SLOPPY = """(() => {
  const thread = document.querySelector("[data-testid=thread]");
  document.querySelector("[data-testid=new-chat]").addEventListener("click", (event) => {
    event.stopImmediatePropagation();
    thread.replaceChildren();
    thread.dataset.conversation = `sloppy-${Math.random().toString(16).slice(2)}`;
  }, true);
})()"""


async def test_a_request_cancelled_in_mid_upload_leaves_no_image_to_the_next(page: ChatPage, demo: DemoSite) -> None:
    """Even on a page whose new chat does not drop an upload that still runs."""
    tab, upload, before = await idle_tab(page), HeldUpload(), len(demo.ledger.entries())
    await tab.page.evaluate(SLOPPY)
    await tab.page.route("**/api/images", upload.hold)
    asking = asyncio.create_task(ask_with(page, ALL[:1]))
    await upload.begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    upload.let_go.set()
    await tab.page.unroute_all(behavior="wait")
    await check_next_has_none(page, demo)
    assert len(demo.ledger.entries()) == before + 1


async def test_a_request_cancelled_in_mid_answer_leaves_no_image_to_the_next(page: ChatPage, demo: DemoSite) -> None:
    async with aclosing(page.ask("a", "[[tokens=2000]]", "demo-small", ALL)) as pieces:
        await anext(pieces)
    assert (last(demo).outcome, last(demo).images) == ("stopped", notes(ALL))
    await check_next_has_none(page, demo)


async def test_a_conversation_with_an_image_attached_is_not_fresh(page: ChatPage, demo: DemoSite) -> None:
    tab = await idle_tab(page)
    await upload_images(tab, ALL[:1])
    seen = await tab.look()
    assert seen
    assert (seen.attached, tab.is_fresh(seen)) == (1, False)
    await tab.open_fresh_chat()


async def test_a_site_that_refuses_an_image_fails_the_request_at_once(page: ChatPage, demo: DemoSite) -> None:
    before = demo.ledger.revision
    with pytest.raises(SiteFailed) as caught:
        await ask_with(page, [image(mark=b"x" * SITE_LIMIT_BYTES)])
    assert not caught.value.submitted
    assert demo.ledger.revision == before
    await check_next_has_none(page, demo)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"done": "[data-testid=attachment][data-state=ready]|.never"}, PromptRejected),
        ({"selector": "[data-testid=files]|.nowhere"}, PageBroken),
        ({"selector": "[data-testid=files]|[data-testid=prompt]"}, PageBroken),
    ],
)
async def test_a_page_that_does_not_take_images(
    page: ChatPage, demo: DemoSite, changes: dict[str, str], error: type[BrowserError]
) -> None:
    tab = await idle_tab(page)
    site = demo_file(demo, brief="[upload]|[upload]\ntimeout_s = 0.5", **changes)
    with pytest.raises(error, match="site file: upload"):
        await upload_images(Tab(tab.page, site), ALL[:1])
    await tab.open_fresh_chat()


async def test_a_site_file_without_upload_takes_no_images(page: ChatPage, demo: DemoSite) -> None:
    tab = await idle_tab(page)
    without = demo_file(demo).model_copy(update={"upload": None})
    with pytest.raises(PromptRejected, match="no images"):
        await upload_images(Tab(tab.page, without), ALL[:1])


async def test_images_are_pasted_where_the_site_file_says_so(page: ChatPage, demo: DemoSite) -> None:
    tab = await idle_tab(page)
    await upload_images(Tab(tab.page, demo_file(demo, **PASTE)), ALL)
    await tab.run(tab.site.model_choices[0].choose, model="demo-small")
    await tab.page.fill("[data-testid=prompt]", "pasted")
    await tab.run(tab.site.send.actions)
    (entry,) = await demo.ledger.wait(lambda entry: entry.prompt == "pasted", 10)
    assert entry.images == notes(ALL)
    await tab.load()


PLUS = """(() => {
  const input = document.querySelector("[data-testid=files]");
  const plus = document.createElement("button");
  input.dataset.testid = "";
  Object.assign(plus, { id: "plus", textContent: "+", type: "button" });
  plus.onclick = () => { input.dataset.testid = "files"; };
  document.querySelector("header").append(plus);
})()"""


async def test_upload_actions_bring_the_file_input_up(page: ChatPage, demo: DemoSite) -> None:
    """The selector finds no input until the button was clicked that opens it."""
    tab = await idle_tab(page)
    await tab.page.evaluate(PLUS)
    steps = '[upload]|[upload]\nactions = [{ click = "#plus" }]\ntimeout_s = 5'
    await upload_images(Tab(tab.page, demo_file(demo, steps=steps)), ALL[:1])
    await tab.open_fresh_chat()


async def test_nothing_of_an_image_is_left_on_disk(
    page: ChatPage, demo: DemoSite, folder: Path, shared_browser: SharedBrowser
) -> None:
    await check(page, demo, [image(mark=CANARY * 2000)])
    await page.close()
    folders = (folder, shared_browser.host.run_dir)
    written = [path for each in folders for path in each.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if CANARY in path.read_bytes()]


@pytest.mark.firefox
@pytest.mark.parametrize("changes", [{}, PASTE], ids=["file input", "paste"])
async def test_images_in_firefox(shared_pages: Pages, demo: DemoSite, changes: dict[str, str]) -> None:
    page = await shared_pages.open(demo_file(demo, **changes), cookie_state(demo, "grace"), engine="firefox")
    await check(page, demo, ALL)
    await check_next_has_none(page, demo)
