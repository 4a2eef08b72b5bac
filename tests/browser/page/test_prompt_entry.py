"""Prompts are entered into inputs of all kinds exactly, or not at all; in real Chromium."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page
from structlog.testing import capture_logs

from browser.errors import PageBroken, PromptRejected
from browser.page.page_input import enter_prompt
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
async def tab(browser: Browser) -> Page:
    return await browser.new_page()


@pytest.fixture
async def blank(tab: Page) -> Page:
    """A new document, with nothing in it."""
    await tab.goto("about:blank")
    return tab


# An editor with a selection of its own, which only keys change; of pasted text it drops blank lines.
OWN_SELECTION = """<div id=i contenteditable style="white-space: pre-wrap"></div><script>
  let [lines, all] = [[""], false];
  const draw = () => i.replaceChildren(...lines.map((line) => {
    const p = document.createElement("p");
    p.append(line || document.createElement("br"));
    return p;
  }));
  const put = (more) => {
    if (all) [lines, all] = [[""], false];
    lines[lines.length - 1] += more[0];
    lines.push(...more.slice(1));
    draw();
  };
  i.addEventListener("keydown", (event) => {
    if (event.key === "a" && event.ctrlKey) all = true;
    if (event.key === "Backspace") put([""]);
  });
  i.addEventListener("paste", (event) => put(event.clipboardData.getData("text/plain").split(/\\n+/)));
  i.addEventListener("beforeinput", (event) => {
    event.preventDefault();
    if (event.data) put(event.data.split("\\n"));
  });
</script>"""
# Editors that break a line only by Shift+Enter, whatever they are given; one also takes what other editors copy.
KEYED = """<div id=i contenteditable style="white-space: pre-wrap"></div><script>
  let [text, all, sent] = ["", false, 0];
  const put = (more) => {
    text = (all ? "" : text) + more;
    all = false;
    i.replaceChildren();
    const lines = text.split("\\n");
    lines.forEach((line, at) => i.append(...(at ? [document.createElement("br")] : []), line));
    if (!lines.at(-1)) i.append(document.createElement("br"));
  };
  i.addEventListener("keydown", (event) => {
    if (event.key === "a" && event.ctrlKey) all = true;
    if (event.key === "Backspace") put("");
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (event.shiftKey) put("\\n");
    else if (text) [text, sent] = ["", sent + 1];
  });
  i.addEventListener("paste", (event) => {
    event.preventDefault();
    const copied = new DOMParser().parseFromString(TAKES_HTML && event.clipboardData.getData("text/html"), "text/html");
    copied.querySelectorAll("br").forEach((br) => br.replaceWith("\\n"));
    put(copied.body.textContent || event.clipboardData.getData("text/plain").replaceAll("\\n", " "));
  });
  i.addEventListener("beforeinput", (event) => {
    event.preventDefault();
    if (event.data) put(event.data.replaceAll("\\n", " "));
  });
</script>"""
KEYED_HTML, KEYED_ONLY = (KEYED.replace("TAKES_HTML", takes) for takes in ("true", "''"))


def field(*methods: str, key: str = "Shift+Enter") -> Input:
    with_key = {"line_break": key} if "lines" in methods else {}
    return Input.model_validate({"selector": "#i", "methods": methods, **with_key})


HELD = """() => {
  if ("value" in i) return i.value;
  const nodes = [...i.childNodes];
  const hasBlocks = nodes.some((node) => ["P", "DIV"].includes(node.nodeName));
  if (hasBlocks) return nodes.map((line) => line.textContent).join("\\n");
  return nodes.map((node) => node.nodeName === "BR" ? "\\n" : node.textContent).join("");
}"""


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
        (OWN_SELECTION, ["paste", "insert_text"]),
        (OWN_SELECTION, ["paste", "fill"]),
        (PASTE_ONLY, ["insert_text", "paste"]),
        (KEYED_HTML, ["lines"]),
        (KEYED_ONLY, ["lines"]),
        (KEYED_ONLY, ["paste", "insert_text", "fill", "lines"]),
        (EDITOR, ["lines"]),
        ("<textarea id=i>old text</textarea>", ["lines"]),
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


async def test_where_an_input_differs_is_said_and_logged(blank: Page) -> None:
    await blank.set_content(KEYED_ONLY)
    with capture_logs() as logged, pytest.raises(PromptRejected) as caught:
        await enter_prompt(blank, field("setter", "paste", "insert_text"), "secret\nwords")
    where = "character 7 of 12 is a line break, and the input has a space (U+0020) there"
    assert str(caught.value) == f"the page's input did not take the prompt as it is: {where}; nothing was sent"
    assert caught.value.tried[1:] == (f"input.methods, 'paste': {where}", f"input.methods, 'insert_text': {where}")
    assert "no input or textarea" in caught.value.tried[0]
    differs = [entry for entry in logged if entry["event"] == "prompt_entry_differs"]
    assert [(entry["method"], entry["at"]) for entry in differs] == [("paste", 7), ("insert_text", 7)]
    assert "secret" not in f"{logged}{caught.value}{caught.value.tried}"


async def test_a_key_that_sends_is_found_out_before_there_is_anything_to_send(blank: Page) -> None:
    await blank.set_content(KEYED_ONLY)
    with pytest.raises(PromptRejected, match="the key 'Enter' breaks no line in the input"):
        await enter_prompt(blank, field("paste", "lines", key="Enter"), "one\ntwo")
    assert await blank.evaluate("[sent, text]") == [0, ""]


async def test_100_kb_are_entered_by_lines_at_once(blank: Page) -> None:
    prompt = "\n".join(f"{number}: <{'x' * 20}  \t{'&' * 20}" for number in range(2000))
    await blank.set_content(KEYED_HTML)
    await enter_prompt(blank, field("lines"), prompt)
    assert await blank.evaluate("text") == prompt


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
