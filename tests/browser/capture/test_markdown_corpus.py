"""What the usual packages make of Markdown, shown by a real page, comes back as the Markdown that it was made of.

scripts/markdown-corpus made the fixtures. A file NAME.expected.md says what comes back where that is not the source.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from browser.capture import dom_reader, scripts
from browser.capture.markdown import from_html
from browser.site.selectors import page_path
from tests.browser.capture.test_markdown_steady import streamed

FOLDER = Path(__file__).parent / "markdown_corpus"
FIXTURES: dict[str, Any] = json.loads((FOLDER / "fixtures.json").read_text())
RENDERED = {f"{renderer} {name}": html for renderer, of in FIXTURES["rendered"].items() for name, html in of.items()}
SHOW = f"""(all) => {{
  const dom = {scripts.DOM}();
  const wish = {{ answer: {json.dumps(page_path(".answer"))}, baseline: 0, reasoning_baseline: 0, read: "markdown" }};
  const answer = document.body.appendChild(document.createElement("div"));
  answer.className = "answer";
  return all.map((html) => {{
    answer.innerHTML = html;
    return dom.answer(wish).text;
  }});
}}"""
UNKNOWN_LANGUAGE = ("shiki", "pygments")
"""What of these renderers' code blocks tells no language."""


def expected(case: str) -> str:
    """Return what must come back of a fixture."""
    renderer, name = case.split()
    if renderer == "codemirror":
        return f"```javascript\n{FIXTURES['edited']}\n```"
    if renderer == "monaco":  # it draws tabs as spaces, and notes no language
        return f"```\n{FIXTURES['edited'].expandtabs(4)}\n```"
    ways = (f"{name}.{renderer}.expected.md", f"{name}.expected.md", f"{name}.md")
    text = next(FOLDER / "sources" / way for way in ways if (FOLDER / "sources" / way).exists()).read_text().rstrip()
    if renderer.startswith(UNKNOWN_LANGUAGE):
        text = text.replace("```python", "```").replace("```js", "```").replace("````md", "````")
    return text


async def test_what_renderers_made_comes_back(each_browser: Browser) -> None:
    page = await each_browser.new_page()
    shown = await page.evaluate(SHOW, list(RENDERED.values()))
    read = {case: from_html(html) for case, html in zip(RENDERED, shown, strict=True)}
    assert read == {case: expected(case) for case in RENDERED}


def states(differences: list[tuple[int, str]]) -> list[str]:
    """Return what a page shows of a growing answer, from what each state keeps of the one before it and adds."""
    shown = [""]
    for kept, rest in differences:
        shown.append(shown[-1][:kept] + rest)
    return shown


@pytest.mark.parametrize("renderer", sorted(FIXTURES["growing"]))
def test_a_growing_answer_is_passed_on_as_it_is_read_in_the_end(renderer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dom_reader, "HTML_REST", 0)
    shown = states(FIXTURES["growing"][renderer])
    pieces = streamed(shown)
    assert "".join(pieces) == from_html(shown[-1])
    # Of the looks at it most find something: it comes while it is written, and not at its blocks' ends.
    assert len(pieces) > len(shown) / 2


REFERRING = """See [the docs][1], [docs] and a note[^1] in words.

- an item with ![a picture][1] and one more[^2]
- a word

{first}The last paragraph.{last}

[1]: http://h/x "title"
[docs]: http://h/y"""
AGAIN = 'A paragraph with [the docs](http://h/x "title") again.\n\n'
NOTES = "[^1]: The first note.\n\n[^2]: The second."
NAMED = "A note[^{0}] and one more[^{1}] in words.\n\nAnother paragraph of words.\n\nThe last paragraph.\n\n"
NAMED_NOTES = "[^{0}]: This is why.\n\n[^{1}]: The other note."
LATE = {
    ("referring", "markdown-it"): REFERRING.format(first=AGAIN, last=f"\n\n{NOTES}"),
    ("referring", "marked"): REFERRING.format(first=f"{NOTES}\n\n{AGAIN}", last=""),  # it knows no footnotes
    ("referring", "react-markdown"): REFERRING.format(first=AGAIN, last=f"\n\n{NOTES}"),
    ("named", "markdown-it"): (NAMED + NAMED_NOTES).format("1", "2"),  # it keeps no names
    ("named", "marked"): NAMED.replace("The last", f"{NAMED_NOTES}\n\nThe last").rstrip().format("why", "1"),
    ("named", "react-markdown"): (NAMED + NAMED_NOTES).format("why", "1"),
}


@pytest.mark.parametrize(("source", "renderer"), sorted(LATE))
def test_what_is_defined_later_contradicts_nothing(source: str, renderer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links and footnotes whose definitions come after them: as they were passed on, and defined at the end."""
    monkeypatch.setattr(dom_reader, "HTML_REST", 0)
    pieces = streamed(states(FIXTURES["late"][source][renderer]))
    assert "".join(pieces) == LATE[source, renderer]
    if source == "referring":
        assert len(pieces) > 15, "it comes while it is written"


def test_each_late_definition_is_tried() -> None:
    assert {(source, renderer) for source, of in FIXTURES["late"].items() for renderer in of} == set(LATE)
