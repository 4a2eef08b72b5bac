"""Answers that are made of web components: what stands in shadow roots below the answer's element is part of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from browser.capture import scripts
from browser.capture.markdown import from_html
from browser.process.browser_process import BrowserProcess
from browser.settings import BrowserSettings, EngineName
from browser.site.selectors import path_or_none

COMPONENTS = """<!doctype html><meta charset=utf-8><title>components</title><div id=place></div><script>
let made = 0;
const component = (name, html, fill = () => {}) => customElements.define(name, class extends HTMLElement {
  constructor() { super(); made++; fill(this.attachShadow({ mode: "open" }), this, html); }
});
const plain = (root, host, html) => { root.innerHTML = html; };
component("my-code", "<style>pre {}</style><pre><code class=language-python><slot></slot></code></pre>", plain);
component("my-name", "<b>Ada</b>", plain);
component("my-quote", "<template>never</template><blockquote><p><slot>nothing was said</slot></p></blockquote>", plain);
component("my-list", "<ul><li>one</li><li><my-name></my-name></li></ul>", plain);
component("my-spoiler", "<p style='display: none'>hidden</p><p>shown</p>", plain);
</script>"""


WISH = {"answer": path_or_none(".answer"), "baseline": 0, "reasoning_baseline": 0, "settle_ms": 0}


@pytest.fixture(scope="module", params=["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
async def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    engine: EngineName = request.param
    process = BrowserProcess(
        engine=engine, headless=True, run_dir=tmp_path_factory.mktemp("run"), settings=BrowserSettings()
    )
    yield await process.start()
    await process.close()


@pytest.fixture(scope="module")
async def page(browser: Browser) -> Page:
    page = await browser.new_page()
    await page.set_content(COMPONENTS)
    return page


async def read(page: Page, html: str, how: str, **more: Any) -> str:
    """Return the answer's text as a child reads it."""
    await page.evaluate("(html) => { place.innerHTML = html }", f"<div class=answer>{html}</div>")
    wish = {**WISH, "read": how, **more}
    made = await page.evaluate("made")
    text: str = (await page.evaluate(scripts.ANSWER, wish))["text"]
    assert await page.evaluate("made") == made, "reading an answer runs no code of its components"
    return from_html(text) if how == "markdown" else text


CASES = [
    ("<p>Hello <my-name></my-name>!</p>", "Hello Ada!", "Hello Ada!", "Hello **Ada**!"),
    (
        "<p>so:</p><my-code>a = 1\nb = 2</my-code>",
        "so:a = 1\nb = 2",
        "so:\na = 1\nb = 2",
        "so:\n\n```python\na = 1\nb = 2\n```",
    ),
    ("<my-quote>to be</my-quote>", "to be", "to be", "> to be"),
    ("<my-quote></my-quote>", "nothing was said", "nothing was said", "> nothing was said"),
    ("<my-list></my-list>", "oneAda", "one\nAda", "- one\n- **Ada**"),
    ("<p>a</p><my-spoiler>unslotted</my-spoiler>", "ahiddenshown", "a\nshown", "a\n\nhidden\n\nshown"),
]


@pytest.mark.parametrize(("html", "text", "rendered", "markdown"), CASES, ids=range(len(CASES)))
async def test_what_components_show_is_read(page: Page, html: str, text: str, rendered: str, markdown: str) -> None:
    assert await read(page, html, "text") == text
    assert [line for line in (await read(page, html, "rendered")).split("\n") if line] == rendered.split("\n")
    assert (await read(page, html, "markdown")).strip() == markdown


async def test_what_is_ignored_is_left_out_in_components_too(page: Page) -> None:
    html = "<my-list></my-list><p>end <i class=mark>*</i></p>"
    assert await read(page, html, "text", ignore="li:first-child, .mark") == "Adaend "
    assert (await read(page, html, "markdown", ignore="b, .mark")).split() == ["-", "one", "-", "end"]


async def test_an_answer_that_is_a_component_itself(page: Page) -> None:
    await page.evaluate("place.innerHTML = '<my-quote class=answer>to <i>be</i></my-quote>'")
    wish = {**WISH, "read": "text"}
    assert (await page.evaluate(scripts.ANSWER, wish))["text"] == "to be"


@pytest.mark.parametrize("how", ["text", "rendered", "markdown"])
async def test_an_answer_inside_a_component_that_its_children_fill(page: Page, how: str) -> None:
    await page.evaluate("place.innerHTML = '<my-quote>to be</my-quote>'")
    wish = {**WISH, "answer": path_or_none("blockquote p"), "read": how}
    assert "to be" in (await page.evaluate(scripts.ANSWER, wish))["text"]
