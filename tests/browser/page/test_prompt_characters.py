"""Characters of all kinds by every method into editors of several kinds: entered exactly, or refused by name."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, Page

from browser.errors import PromptRejected
from browser.page.page_input import enter_prompt, normalised
from browser.site.schema import Input

CHARACTERS = {
    "no-break space": "10\u00a0000\u00a0€",
    "narrow no-break space": "10\u202f000",
    "wide spaces": "a\u3000b\u2003c",
    "spaces at both ends": "  a ",
    "several spaces": "a  b   c",
    "tabs": "\ta\tb",
    "line breaks": "a\nb",
    "blank lines": "a\n\n\n  b",
    "carriage returns": "a\r\nb",
    "line and paragraph separators": "a\u2028b\u2029c",
    "zero width space": "a\u200bb",
    "zero width joiners": "a\u200db\u200cc",
    "byte order mark": "a\ufeffb",
    "soft hyphen": "a\u00adb",
    "combining mark": "e\u0301 a\u0308\u0323",
    "composed letter": "\u00e9 \u1ea1",
    "conjoining jamo": "\u1112\u1161\u11ab",
    "joined emoji": "👩\u200d🚀 👨\u200d👩\u200d👧",
    "separate emoji": "👩🚀👨👩👧",
    "flags and skin tones": "🇩🇪 👍🏽 1\ufe0f\u20e3",
    "right to left": "שלום \u200f\u0645\u0631\u062d\u0628\u0627\u200e",
    "isolates": "\u2067אב\u2069 \u202eab\u202c",
    "letters of other planes": "𝒜𠜎",
    "markup": "<b>&amp;</b> `**a**` \\\\n {x}",
    "control characters": "a\x01\x1bb\x7f",
    "next line, form feed": "a\x85b\x0cc",
    "private use": "a\ue000b",
    "no character": "a\ufffeb",
}
HALF = "a\ud83db"

# The text that each page would send. Its own state is what its events made of it, apart from what the child reads back.
PLAIN_SENDS = """window.sends = () => {
  const nodes = [...i.childNodes];
  const lines = nodes.some((node) => node.nodeName === "DIV");
  return nodes.map((node) => node.nodeName === "BR" ? "\\n" : node.textContent).join(lines ? "\\n" : "");
};"""
MODEL = """
  let [text, all] = ["", false];
  window.sends = () => text;
  const put = (more) => { text = take((all ? "" : text) + more); all = false; draw(); };
  i.addEventListener("keydown", (event) => {
    if (event.key === "a" && event.ctrlKey) all = true;
    if (event.key === "Backspace") put("");
    if (event.key === "Enter") { event.preventDefault(); put("\\n"); }
  });
  i.addEventListener("paste", (event) => { event.preventDefault(); put(event.clipboardData.getData("text/plain")); });
  i.addEventListener("beforeinput", (event) => { event.preventDefault(); if (event.data) put(event.data); });
"""
PARAGRAPHS = """
  const take = (text) => text;
  const draw = () => i.replaceChildren(...text.split("\\n").map((line) => {
    const p = document.createElement("p");
    p.append(line || document.createElement("br"));
    return p;
  }));
"""
# One that folds line breaks, composes letters and drops what has no width.
REWRITES = """
  const take = (text) =>
    text.replace(/\\n+/g, "\\n").replaceAll("\\u00a0", " ").normalize().replace(/[\\u200b\\ufeff]/g, "");
  const draw = () => {
    i.replaceChildren();
    text.split("\\n").forEach((line, at) => i.append(...(at ? [document.createElement("br")] : []), line));
    if (text.endsWith("\\n") || !text) i.append(document.createElement("br"));
  };
"""
PRE = "<div id=i contenteditable style='white-space: pre-wrap'></div>"
VALUE_SENDS = "<script>window.sends = () => i.value</script>"
EDITORS = {
    "textarea": f"<textarea id=i></textarea>{VALUE_SENDS}",
    "input": f"<input id=i>{VALUE_SENDS}",
    "plain": f"{PRE}<script>{PLAIN_SENDS}</script>",
    "collapsing": f"<div id=i contenteditable></div><script>{PLAIN_SENDS}</script>",
    "paragraphs": f"{PRE}<script>{PARAGRAPHS}{MODEL}</script>",
    "rewriting": f"{PRE}<script>{REWRITES}{MODEL}</script>",
}
METHODS = ("setter", "fill", "insert_text", "paste", "lines")

# What each refuses, and the words in which it says so; the rest it holds exactly.
NO_LINES = dict.fromkeys(("line breaks", "blank lines", "carriage returns"), "is a line break, and")
REWRITTEN = {
    "no-break space": "is a no-break space (U+00A0), and the input has a space (U+0020) there",
    "blank lines": "is a line break, and",
    "zero width space": "is a zero width space (U+200B), and",
    "byte order mark": "is a zero width no-break space (U+FEFF), and",
    "combining mark": "is a letter, and the input has another one there",
    "conjoining jamo": "is a letter, and the input has another one there",
}
NO_FIELD = {"all": "the element is no input or textarea"}
NO_PASTE = {"all": "character 1 of 196 is a digit, and the input ends before it"}
REFUSED = {
    "textarea": {"paste": NO_PASTE},
    "input": {
        **dict.fromkeys(("setter", "fill", "insert_text"), NO_LINES),
        "paste": NO_PASTE,
        "lines": {"all": "the key 'Shift+Enter' breaks no line in the input"},
    },
    "plain": {"setter": NO_FIELD, "paste": NO_PASTE},
    "collapsing": {"setter": NO_FIELD, "paste": NO_PASTE},
    "paragraphs": {"setter": NO_FIELD},
    "rewriting": {"setter": NO_FIELD, **dict.fromkeys(("fill", "insert_text", "paste", "lines"), REWRITTEN)},
}


def field(method: str) -> Input:
    with_key = {"line_break": "Shift+Enter"} if method == "lines" else {}
    return Input.model_validate({"selector": "#i", "methods": (method,), **with_key})


async def refusal(page: Page, method: str, prompt: str) -> str | None:
    """Enter the prompt; return what it was refused with, or None once the page would send exactly it."""
    try:
        await enter_prompt(page, field(method), prompt)
    except PromptRejected as error:
        return str(error)
    sent = await page.evaluate("sends()")
    wanted = normalised(prompt)
    assert len(sent) == len(wanted), (method, prompt, sent)
    # A browser writes a space that HTML would drop as a no-break space, and the page reads it as the space it was.
    as_space = [" " if old == " " and new == "\u00a0" else new for old, new in zip(wanted, sent, strict=True)]
    assert "".join(as_space) == wanted, (method, prompt, sent)
    return None


def at_fault(kinds: dict[str, str], why: str) -> str | None:
    """Return the kind in whose part of the prompt a refusal says that the difference is, if it says that."""
    found = re.search(r"character (\d+) of", why)
    if not found:
        return None
    end = 0
    for name, text in kinds.items():
        end += len(normalised(text)) + 1
        if int(found[1]) <= end:
            return name
    raise AssertionError(why)


async def refusals(page: Page, method: str) -> dict[str, str]:
    """Enter all kinds in one prompt, without those that were refused before; return why each of these was."""
    kinds = dict(CHARACTERS)
    refused: dict[str, str] = {}
    while kinds and (why := await refusal(page, method, "|".join(kinds.values()))) is not None:
        name = at_fault(kinds, why)
        if name is None or (not refused and "character 1 of" in why):
            return {"all": why}
        refused[name] = why
        del kinds[name]
    return refused


@pytest.mark.parametrize("editor", EDITORS)
async def test_each_is_entered_exactly_or_refused_by_name(browser: Browser, editor: str) -> None:
    page = await browser.new_page()
    await page.set_content(EDITORS[editor])
    for method in METHODS:
        refused = await refusals(page, method)
        expected = REFUSED[editor].get(method, {})
        assert set(refused) == set(expected), (method, refused)
        for name, why in refused.items():
            assert expected[name] in why, (method, name, why)
        if "all" not in refused:
            half = await refusal(page, method, HALF)
            assert half == "the prompt holds half of a surrogate pair, which no page can take"
    await page.close()
