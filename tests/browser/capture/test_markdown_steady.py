"""Markdown of an answer that is still being written: passed on early, and never contradicted by its end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from browser.capture import dom_reader
from browser.capture.dom_reader import DomReader
from browser.capture.findings import Done, Lost, Text, Transcript
from browser.capture.frames import Frame, FrameKind
from browser.capture.markdown import from_html, steady_from_html
from tests.browser.capture.test_markdown import RENDER, SOURCES, same
from tests.support.size import size

WORDS = (
    *("plain words here", "**bold words**", "*slanted*", "***both***", "_under_", "snake_case_name", "2 * 3 * 4"),
    *("`code`", "``a ` b``", "[a link](http://h/a_b 'title')", "[brackets]", "<http://h/x>", "![alt](http://h/i.png)"),
    *("a < b", "<b>tag</b>", "&amp;", r"\*escaped\*", "~~gone~~", "~5 of 7", "5* hotel", "(in brackets)", "$5", "a|b"),
    *("[docs][1]", "![docs][1]", "[brackets][]", "a[1]", "[^1]"),
    *("\\", "1.", "-", "#", "end.  ", "“quoted”", "東京 👩‍🚀"),
)
LINE = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
TEXT = st.lists(LINE, min_size=1, max_size=3).map("\n".join)
ITEMS = st.lists(LINE, min_size=1, max_size=3)


def indented(text: str, first: str, rest: str) -> str:
    return first + text.replace("\n", f"\n{rest}")


BLOCK = st.one_of(
    TEXT,
    st.builds(lambda level, line: f"{'#' * level} {line}", st.integers(1, 6), LINE),
    st.builds(lambda items, gap: gap.join(f"- {item}" for item in items), ITEMS, st.sampled_from(["\n", "\n\n"])),
    ITEMS.map(lambda items: "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))),
    st.builds(lambda line, items: "\n".join([f"- {line}", *(f"  - {item}" for item in items)]), LINE, ITEMS),
    st.builds(lambda first, second: f"- {indented(first, '', '  ')}\n\n  {indented(second, '', '  ')}", TEXT, TEXT),
    TEXT.map(lambda text: indented(text, "> ", "> ")),
    st.builds(
        lambda language, lines: "\n".join([f"```{language}", *lines, "```"]),
        st.sampled_from(["", "python", "md", "js"]),
        st.lists(st.sampled_from(["", "x = 1", "  indented", "- no list", "# no heading", "a ``` b"]), max_size=4),
    ),
    st.sampled_from(["| a | b |\n|---|--:|\n| 1 | 2 |\n| `3` | **4** |", "|a|b|\n|-|-|\n|c|d|", "---", "***"]),
)
EXAMPLES = size(25, 500)
HEADING_ELEMENT = re.compile(r"<h[12]>.*?</h[12]>", re.DOTALL)
DEFINITIONS = "\n\n[1]: http://h/1\n[brackets]: <http://h/2> 'title'"
DOCUMENT = st.builds(
    lambda blocks, end: "\n\n".join(blocks) + end,
    st.lists(BLOCK, min_size=1, max_size=4),
    st.sampled_from(["", DEFINITIONS, f"{DEFINITIONS}\n\nand *more* words"]),
)


@pytest.fixture(autouse=True)
def at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dom_reader, "HTML_REST", 0)


def streamed(shown: Iterable[str]) -> list[str]:
    """Return the pieces of text of a page that shows these one after the other; the last one is the whole answer."""
    reader = DomReader(Transcript(), html=True)
    frames = [*(Frame(FrameKind.DOM_SET, 0, html.encode()) for html in shown), Frame(FrameKind.DOM_DONE)]
    findings = [finding for frame in frames for finding in reader.read(frame)]
    assert findings[-1] == Done(), "the page is said to have rewritten its text"
    return [finding.text for finding in findings if isinstance(finding, Text)]


def same_text(first: str, second: str) -> bool:
    """Compare HTML as `same` does, where a heading may be over several lines in the one and on one in the other."""
    return same(*(HEADING_ELEMENT.sub(lambda heading: heading[0].replace("\n", " "), html) for html in (first, second)))


def growing(source: str, begin: int = 1, step: int = 1) -> list[str]:
    return [RENDER(source[:end]) for end in [*range(begin, len(source), step), len(source)]]


@given(DOCUMENT, st.integers(1, 30), st.integers(1, 30))
@example("- 1.\n  plain words here\n\n  plain words here", 1, 1)
@example("- \\\n  - plain words here\n\n- plain words here", 1, 1)
@settings(max_examples=EXAMPLES, deadline=None)
def test_what_is_passed_on_is_never_contradicted(source: str, begin: int, step: int) -> None:
    text = "".join(streamed(growing(source, begin, step)))
    assert same_text(RENDER(text), RENDER(from_html(RENDER(source))))


@pytest.mark.parametrize("name", SOURCES)
def test_each_form_is_passed_on_as_it_is_read_in_the_end(name: str) -> None:
    source = SOURCES[name]
    assert "".join(streamed(growing(source))) == from_html(RENDER(source))


@pytest.mark.parametrize(
    ("shown", "steady"),
    [
        ("<p>one long</p>", "one"),
        ("<p>one <strong>long</strong> paragraph</p>", "one **long**"),
        ("<p>one <strong>long</strong></p>", "one"),
        ("<p>one **long paragraph</p>", "one"),
        ("<p>see [the link](http://h</p>", "see"),
        ("<p>see (all of</p>", "see"),
        ("<p>| a | b |</p>", ""),
        ("<p>first</p><p>| a</p>", "first"),
        ("<h1>A title</h1>", ""),
        ("<p>a</p><hr>", "a"),
        ("<ul><li>one</li><li>two words</li></ul>", "- one\n- two"),
        ("<ul><li>one</li><li>two</li></ul>", "- one"),
        ("<blockquote><p>two words</p></blockquote>", "> two"),
        ('<pre><code class="language-py">a\nb\nc</code></pre>', "```py\na\nb"),
        ('<pre><code class="language-md">a\nb\nc</code></pre>', ""),
        ("<table><tr><th>a</th></tr><tr><td>b</td></tr><tr><td>c</td></tr></table>", "| a |\n| --- |\n| b"),
        ("<p>$$ a</p><ul><li>b c d</li></ul>", ""),
        ("<p><span>one</span> <span>two</span> <span>thr</span></p>", "one two"),
        ("<div><div><p>one two</p></div><button>Copy</button></div>", "one"),
    ],
)
def test_what_may_still_change_is_held_back(shown: str, steady: str) -> None:
    assert steady_from_html(shown) == steady


@pytest.mark.parametrize(
    ("shown", "steady"),
    [
        ("<p>one two</p><p>three €4, five</p><p>six</p>", "one two"),
        ("<p>one two</p><p>three four €5</p>", "one two\n\nthree"),
        ("<p>one <strong>two €</strong> three</p>", "one"),
        ("<ul><li>one two</li><li>€</li></ul><p>three</p>", "- one"),
        ("<p>one</p><pre>a\nb\n€\nc</pre>", "one"),
        ("<p>no sign</p><p>here</p>", "no sign"),
    ],
)
def test_what_comes_from_a_match_on_is_held_back(shown: str, steady: str) -> None:
    assert steady_from_html(shown, re.compile("€")) == steady


SIGNS = st.text(alphabet="ab *_`<>~|[]()#-+=1.\\\n&;$^!", max_size=60)


@given(st.one_of(DOCUMENT, SIGNS).map(RENDER) | SIGNS.map(lambda text: f"<p>{escape(text)}</p>"))
@example("<p>5* hotel 5* hotel</p>")
@example("<p># no heading</p>")
@example("<p>1. no item</p>")
@example("<p>a backslash \\\nat an end</p>")
@settings(max_examples=size(100, 3000), deadline=None)
def test_where_the_steady_part_ends_changes_nothing_before_it(shown: str) -> None:
    """Whether a character is escaped depends on what stands beside it, and the end of the steady part is no text."""
    assert from_html(shown).startswith(steady_from_html(shown))


@given(SIGNS.map(lambda text: escape(text.strip())).filter(bool))
@example("\\")
@settings(max_examples=size(100, 3000), deadline=None)
def test_an_item_whose_text_is_found_to_be_a_paragraph_stays_as_it_is(text: str) -> None:
    more = "<ul><li>one</li></ul></li><li>"
    tight = from_html(f"<ul><li>{text}\n{more}two</li></ul>")
    loose = from_html(f"<ul><li><p>{text}</p>{more}<p>two</p></li></ul>")
    assert loose.split() == tight.split()


@given(SIGNS, st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=size(50, 1000), deadline=None)
def test_signs_of_any_kind_are_passed_on_as_they_stay(source: str, begin: int, step: int) -> None:
    streamed(growing(source, begin, step))


def test_a_list_whose_items_are_found_to_be_apart_goes_on() -> None:
    source = "- one\n- two\n- three\n\n- four"
    text = "".join(streamed(growing(source)))
    assert text == "- one\n- two\n\n- three\n\n- four"
    assert same(RENDER(text), RENDER(source))


@pytest.mark.parametrize(
    "source",
    [
        "see [the docs][1] and more words here",
        "[docs]\nand words that follow it",
        "an item of array[1] *under*",
        "see [docs][] and [docs] here, array[i] and array[1] too",
        "![a picture][1] and [the `code` *x*][1] of [docs]",
        "see [docs][1] [1] [docs](http://h) and words\n\nnext",
        "- see [docs][1] and\n- words\n\nafter",
        "# A [docs][1] title\n\nwords",
        "| a | b |\n| --- | --- |\n| [docs][1] | x |\n| c | d |\n\nafter",
        "> see [docs][1] or so\n\nafter",
        "> see [docs][1] or so\n>\n> 1. one two",
        "a note[^1] and another one[^2] here\n\nafter",
    ],
)
def test_a_link_that_is_defined_later_stays_as_it_was_written(source: str) -> None:
    definitions = {"1": 'http://h/1 "a title"', "docs": "<http://h/a b>", "^1": "http://h/n1", "^2": "http://h/n2"}
    used = [f"[{label}]: {target}" for label, target in definitions.items() if f"[{label}]" in source]
    whole = f"{source}\n\n" + "\n".join(used)
    text = "".join(streamed(growing(whole)))
    assert text.startswith(source)
    assert same(RENDER(text), RENDER(whole))


def test_an_address_that_is_still_being_written_is_waited_for() -> None:
    """The look that first shows the words shows the beginning of an address, too, in a definition below them."""
    source = "see [the docs][1] and words\n\n[1]: http://h/x\n\nmore of them here"
    assert "".join(streamed(growing(source, begin=source.index("/x"), step=1))) == (
        "see [the docs](http://h/x) and words\n\nmore of them here"
    )


HEADING = st.builds(
    lambda mark, lines, below, end: indented("\n".join([*lines, below]), mark, rest_of(mark)) + end,
    st.sampled_from(["", "> ", "- ", "1. "]),
    st.lists(st.lists(st.sampled_from(WORDS[:-7] + WORDS[-3:]), min_size=1).map(" ".join), min_size=1, max_size=3),
    st.sampled_from(["-", "---", "=", "==="]),
    st.sampled_from(["", "\n\nmore words", DEFINITIONS]),
)


def rest_of(mark: str) -> str:
    return mark if mark == "> " else " " * len(mark)


@given(HEADING, st.integers(1, 30), st.integers(1, 30))
@example("a|b 5* hotel\n5* hotel a|b\nplain words here\n-", 1, 1)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_paragraph_that_is_found_to_be_a_heading_goes_on(source: str, begin: int, step: int) -> None:
    text = "".join(streamed(growing(source, begin, step)))
    assert same_text(RENDER(text), RENDER(from_html(RENDER(source))))


@pytest.mark.parametrize(
    "source",
    [
        "Some words\n---\n\nmore",
        "Some words\nover two lines\n---",
        "Some words  \nover two lines\nand three\n===",
        "- Some words\n  over two lines\n  ---\n- more",
        "a backslash \\\\\nat an end\n---",
    ],
)
def test_a_heading_over_several_lines_stays_as_it_was_passed_on(source: str) -> None:
    assert "".join(streamed(growing(source))) == source


def test_a_page_that_rewrites_its_text_is_caught() -> None:
    reader = DomReader(Transcript(), html=True)
    for html in ("<p>one two</p>", "<p>other words</p>"):
        reader.read(Frame(FrameKind.DOM_SET, 0, html.encode()))
    assert reader.read(Frame(FrameKind.DOM_DONE)) == [Lost()]
