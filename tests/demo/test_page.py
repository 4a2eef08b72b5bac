"""The chat page in real Chromium."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, BrowserContext, FilePayload, Page, async_playwright, expect

from demo.chromium import chromium_arguments, find_chromium
from demo.ledger import Entry
from demo.shape import QUOTA
from demo.site import DemoSite, SiteOptions, serve
from tests.support.pictures import image

pytestmark = pytest.mark.slow

ANSWER = "[data-role=assistant]"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium for all tests of the module."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=find_chromium(), args=chromium_arguments())
        yield chromium
        await chromium.close()


@pytest.fixture
async def site() -> AsyncIterator[DemoSite]:
    """Serve the demo site with a small body limit."""
    async with serve(SiteOptions(max_body_bytes=100_000)) as served:
        yield served


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Yield a new browser context."""
    context = await browser.new_context()
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """Yield a page; a script error on it fails the test."""
    page = await context.new_page()
    page.set_default_timeout(10_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


async def log_in(page: Page, url: str, path: str = "/chat") -> None:
    """Log in as ada and wait for the chat page."""
    await page.goto(url + path)
    await page.fill("#username", "ada")
    await page.fill("#password", "lovelace")
    await page.click("[data-testid=log-in]")
    await expect(page.get_by_test_id("account")).to_have_text("ada")


async def send(page: Page, prompt: str) -> None:
    """Fill in a prompt and send it."""
    await page.get_by_test_id("prompt").fill(prompt)
    await page.get_by_test_id("send").click()


def last_entry(site: DemoSite) -> Entry:
    """Return the newest ledger entry."""
    return site.ledger.entries()[-1]


async def ended(site: DemoSite, outcome: str) -> Entry:
    """Wait up to 10 s for a ledger entry with this outcome."""
    (entry, *_) = await site.ledger.wait(lambda entry: entry.outcome == outcome, 10)
    return entry


@pytest.mark.parametrize("path", ["/chat", "/chat?transport=ws", "/token/chat", "/token/chat?transport=ws"])
async def test_ask(site: DemoSite, page: Page, path: str) -> None:
    if path.startswith("/token"):
        await log_in(page, site.url, "/token/login")
        await page.goto(site.url + path)
    else:
        await log_in(page, site.url, path)
        assert page.url == site.url + path
    prompt = "Grüße,\n<b>two</b>  lines 👩‍🚀 [[unicode]]"
    await page.get_by_test_id("model").select_option("demo-large")
    await send(page, prompt)
    await expect(page.locator(f"{ANSWER}[data-done=true]")).to_have_attribute("data-state", "done")
    entry = last_entry(site)
    assert (entry.prompt, entry.model, entry.outcome) == (prompt, "demo-large", "done")
    assert entry.transport == ("ws" if "ws" in path else "sse")
    contents = page.get_by_test_id("content")
    assert await contents.nth(0).text_content() == prompt
    assert await contents.nth(1).text_content() == "".join(entry.pieces)
    assert await contents.nth(1).evaluate("element => element.innerText") == "".join(entry.pieces)


async def test_send_needs_text_and_stop_shows_only_while_answering(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    send_button, stop_button = page.get_by_test_id("send"), page.get_by_test_id("stop")
    await expect(send_button).to_be_disabled()
    await expect(stop_button).to_be_hidden()
    await page.get_by_test_id("prompt").fill(" \n")
    await expect(send_button).to_be_disabled()
    await send(page, "[[stall=middle]]")
    await expect(stop_button).to_be_visible()
    await expect(send_button).to_be_hidden()


@pytest.mark.parametrize("transport", ["", "?transport=ws"])
async def test_stop(site: DemoSite, page: Page, transport: str) -> None:
    await log_in(page, site.url, f"/chat{transport}")
    await send(page, "[[stall=middle]]")
    await expect(page.locator(f"{ANSWER} .line")).not_to_have_count(0)
    await page.get_by_test_id("stop").click()
    await expect(page.locator(f"{ANSWER}[data-state=stopped]")).to_have_count(1)
    await expect(page.locator("[data-done]")).to_have_count(0)
    assert last_entry(site).outcome == "stopped"
    await send(page, "next")
    await expect(page.locator("[data-done]")).to_have_count(1)


@pytest.mark.parametrize("transport", ["", "?transport=ws"])
async def test_new_chat_leaves_the_answer_and_everything_before(site: DemoSite, page: Page, transport: str) -> None:
    await log_in(page, site.url, f"/chat{transport}")
    await send(page, "my secret")
    await expect(page.locator("[data-done]")).to_have_count(1)
    await send(page, "[[stall=middle]]")
    await expect(page.locator(f"{ANSWER}[data-state=streaming] .line")).not_to_have_count(0)
    await page.get_by_test_id("new-chat").click()
    await expect(page.get_by_test_id("message")).to_have_count(0)
    assert "secret" not in await page.content()
    old = await ended(site, "left")
    await send(page, "What did I say before?")
    await expect(page.locator("[data-done] [data-testid=content]")).to_contain_text("Earlier prompts: 0")
    assert last_entry(site).conversation != old.conversation


async def test_reload_opens_a_fresh_chat(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    first = await page.get_by_test_id("thread").get_attribute("data-conversation")
    await send(page, "my secret")
    await expect(page.locator("[data-done]")).to_have_count(1)
    await page.reload()
    await expect(page.get_by_test_id("message")).to_have_count(0)
    assert await page.get_by_test_id("thread").get_attribute("data-conversation") != first


@pytest.mark.parametrize("path", ["/chat", "/chat?transport=ws", "/token/chat", "/token/chat?transport=ws"])
async def test_expired_session_leads_to_the_login_form(site: DemoSite, page: Page, path: str) -> None:
    token = path.startswith("/token")
    await log_in(page, site.url, "/token/login" if token else "/chat")
    await page.goto(site.url + path)
    await expect(page.get_by_test_id("account")).to_have_text("ada")
    site.sessions.expire("ada")
    await send(page, "hello")
    await expect(page.get_by_test_id("login-form")).to_be_visible()
    await expect(page.get_by_test_id("account")).to_have_count(0)
    await page.goto(site.url + path)
    await expect(page.get_by_test_id("login-form")).to_be_visible()


@pytest.mark.parametrize("transport", ["", "?transport=ws"])
@pytest.mark.parametrize(
    ("prompt", "notice"),
    [
        ("[[error=quota]]", QUOTA),
        ("[[error=server]]", "Something went wrong"),
        ("[[break_off]]", "The connection was lost"),
        ("x" * 200_000, "The message is too long"),
    ],
    ids=["quota", "server", "break_off", "long"],
)
async def test_failure_is_shown(site: DemoSite, page: Page, transport: str, prompt: str, notice: str) -> None:
    await log_in(page, site.url, f"/chat{transport}")
    await send(page, prompt)
    await expect(page.get_by_test_id("notice")).to_contain_text(notice)
    await expect(page.locator("[data-done]")).to_have_count(0)
    await send(page, "next")
    await expect(page.locator("[data-done]")).to_have_count(1)
    await expect(page.get_by_test_id("notice")).to_be_hidden()


async def test_hang_blocks_the_script_of_the_page(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    await send(page, "[[busy_ms=700]]")
    await expect(page.locator("[data-done]")).to_have_count(1)
    longest = await page.evaluate(
        "() => new Promise(resolve => new PerformanceObserver(list =>"
        " resolve(Math.max(...list.getEntries().map(entry => entry.duration))))"
        ".observe({type: 'longtask', buffered: true}))"
    )
    assert longest >= 700


async def test_crash_ends_the_page_and_nothing_else(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    async with page.expect_event("crash"):
        await send(page, "[[crash]]")
    assert page.context.browser
    assert page.context.browser.is_connected()


async def test_rotating_session_stays_logged_in(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    site.faults.add("rotate_sessions")
    for count in (1, 2):
        await send(page, "hello")
        await expect(page.locator("[data-done]")).to_have_count(count)
    await page.goto(f"{site.url}/chat?transport=ws")
    await send(page, "hello")
    await expect(page.locator("[data-done]")).to_have_count(1)


async def test_storage_state_carries_each_login_to_another_browser(
    site: DemoSite, page: Page, context: BrowserContext, browser: Browser
) -> None:
    await log_in(page, site.url)
    await log_in(page, site.url, "/token/login")
    other = await browser.new_context(storage_state=await context.storage_state())
    for path in ("/chat", "/token/chat"):
        visit = await other.new_page()
        await visit.goto(site.url + path)
        await expect(visit.get_by_test_id("account")).to_have_text("ada")
    await other.close()


async def test_long_answer_stays_quick(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    await send(page, "[[tokens=20000 delay_ms=0]]")
    await expect(page.locator("[data-done]")).to_have_count(1, timeout=30_000)
    text = await page.get_by_test_id("content").nth(1).text_content()
    assert text == "".join(last_entry(site).pieces)


async def test_nothing_comes_from_elsewhere(site: DemoSite, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await log_in(page, site.url)
    await send(page, "[[code]]")
    await expect(page.locator("[data-done]")).to_have_count(1)
    assert [url for url in asked if not url.startswith(site.url)] == []
    assert any(url.endswith("/static/chat.js") for url in asked)


def png_file(data: bytes) -> FilePayload:
    """Return a file for Playwright's file chooser."""
    return {"name": "a.png", "mimeType": "image/png", "buffer": data}


async def test_attach_images_by_button_and_by_paste(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    async with page.expect_file_chooser() as chooser:
        await page.get_by_test_id("attach").click()
    first, second = image(), image("image/webp")
    chosen = await chooser.value
    await chosen.set_files([png_file(first.data)])
    await expect(page.locator("[data-testid=attachment][data-state=ready]")).to_have_count(1)
    pasting = page.get_by_test_id("prompt").evaluate(
        """(prompt, bytes) => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([new Uint8Array(bytes)], "b.webp", { type: "image/webp" }));
          prompt.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
        }""",
        list(second.data),
    )
    await pasting
    await expect(page.locator("[data-testid=attachment][data-state=ready]")).to_have_count(2)
    await send(page, "look")
    entry = await ended(site, "done")
    assert [note.sha256 for note in entry.images] == [hashlib.sha256(one.data).hexdigest() for one in (first, second)]
    await expect(page.get_by_test_id("attachment")).to_have_count(0)
    assert await page.locator("[data-role=user] img").evaluate_all("all => all.every((img) => img.naturalWidth)")


async def test_a_new_chat_has_no_attachments(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    files = page.get_by_test_id("files")
    await files.set_input_files([png_file(image().data)])
    await expect(page.get_by_test_id("attachment")).to_have_count(1)
    await page.get_by_test_id("new-chat").click()
    await expect(page.get_by_test_id("attachment")).to_have_count(0)
    await send(page, "look")
    assert (await ended(site, "done")).images == ()


async def test_an_image_that_is_refused_says_why(site: DemoSite, page: Page) -> None:
    await log_in(page, site.url)
    await page.get_by_test_id("files").set_input_files([png_file(b"x" * 100_001)])
    await expect(page.get_by_test_id("notice")).to_contain_text("too long")
    await expect(page.get_by_test_id("attachment")).to_have_count(0)
