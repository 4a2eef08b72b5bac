"""Prompts are entered into inputs of all kinds exactly, or not at all; in real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page

from browser.errors import PageBroken, PromptRejected
from browser.page.page_input import enter_prompt
from browser.process.browser_process import BrowserProcess
from browser.settings import BrowserSettings
from browser.site.schema import Input

PROMPT = 'first: "Grüße" & <b>\n\n  indented\ttab  \n東京 👩‍🚀 {x} \\n\nlast'

CONTROLLED = """<textarea id=i></textarea><script>
  let state = "";  // as React does it: what no input event announced is put back
  i.addEventListener("input", () => { state = i.value; });
  setInterval(() => { if (i.value !== state) i.value = state; }, 0);
</script>"""
KEYS_ONLY = """<textarea id=i></textarea><script>
  i.addEventListener("input", (event) => { if (!event.isTrusted) i.value = ""; });
</script>"""
SHORT = """<textarea id=i></textarea><script>
  i.addEventListener("input", () => { i.value = i.value.slice(0, 10); });
</script>"""
LATE = """<body><script>
  setTimeout(() => { document.body.innerHTML = "<textarea id=i></textarea>"; }, 100);
</script>"""
EDITOR = "<div id=i contenteditable style='white-space: pre-wrap'></div>"
PASTE_ONLY = """<div id=i contenteditable></div><script>
  i.addEventListener("beforeinput", (event) => event.preventDefault());
  i.addEventListener("paste", (event) => {
    event.preventDefault();
    const lines = event.clipboardData.getData("text/plain").split("\\n");
    i.replaceChildren(...lines.map((line) => {
      const p = document.createElement("p");
      p.append(line || document.createElement("br"));
      return p;
    }));
  });
</script>"""


@pytest.fixture(scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    process = BrowserProcess(
        engine="chromium", headless=True, run_dir=tmp_path_factory.mktemp("run"), settings=BrowserSettings()
    )
    yield await process.start()
    await process.close()


@pytest.fixture
async def blank(browser: Browser) -> AsyncIterator[Page]:
    page = await browser.new_page()
    yield page
    await page.close()


def field(*methods: str) -> Input:
    return Input.model_validate({"selector": "#i", "methods": methods})


HELD = "'value' in i ? i.value : [...i.childNodes].map((line) => line.textContent).join('\\n')"


@pytest.mark.parametrize(
    ("html", "methods"),
    [
        ("<textarea id=i>old text</textarea>", ["setter"]),
        ("<textarea id=i>old text</textarea>", ["fill"]),
        ("<textarea id=i>old text</textarea>", ["insert_text"]),
        (CONTROLLED, ["setter"]),
        (KEYS_ONLY, ["setter", "fill", "insert_text"]),
        (EDITOR, ["setter", "fill"]),
        (EDITOR, ["insert_text"]),
        (PASTE_ONLY, ["paste"]),
        (LATE, ["setter"]),
    ],
)
async def test_an_input_holds_the_prompt(blank: Page, html: str, methods: list[str]) -> None:
    await blank.set_content(html)
    await enter_prompt(blank, field(*methods), PROMPT)
    held: str = await blank.evaluate(HELD)
    assert held.replace("\u00a0", " ") == PROMPT


@pytest.mark.parametrize("html", [EDITOR, "<textarea id=i></textarea>", "<div id=i contenteditable></div>"])
@pytest.mark.parametrize("prompt", ["a\u00a0b", "\u00a0", "10\u00a0000\u00a0€\nnext\u00a0", "a \u00a0 b"])
async def test_spaces_of_every_kind_are_taken(blank: Page, html: str, prompt: str) -> None:
    await blank.set_content(html)
    await enter_prompt(blank, field("setter", "fill", "insert_text"), prompt)
    held: str = await blank.evaluate("'value' in i ? i.value : i.innerText")
    assert held.replace("\u00a0", " ").rstrip("\n") == prompt.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("html", "methods"), [(SHORT, ["setter", "fill"]), ("<input id=i>", ["setter", "fill"]), (PASTE_ONLY, ["fill"])]
)
async def test_a_prompt_that_does_not_stay_is_rejected(blank: Page, html: str, methods: list[str]) -> None:
    await blank.set_content(html)
    with pytest.raises(PromptRejected) as caught:
        await enter_prompt(blank, field(*methods), PROMPT)
    assert not caught.value.submitted
    assert "Grüße" not in str(caught.value)


async def test_100_kb_are_entered_at_once(blank: Page) -> None:
    prompt = "\n".join(f"{number}: {'x' * 45}" for number in range(2000))
    await blank.set_content(CONTROLLED)
    await enter_prompt(blank, field("setter"), prompt)
    assert await blank.evaluate(HELD) == prompt


async def test_a_page_without_its_input_is_broken(blank: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("browser.page.page_input.INPUT_TIMEOUT_MS", 50)
    await blank.set_content("<p>nothing to type in")
    with pytest.raises(PageBroken, match=r"site file: input\.selector"):
        await enter_prompt(blank, field("setter"), PROMPT)
