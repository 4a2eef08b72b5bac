"""Markdown from a page: what a real renderer makes of Markdown, made Markdown again, renders to the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from browser.capture.markdown import from_html
from tests.support.size import size

ROOT = Path(__file__).resolve().parents[3]
RENDER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).render

SOURCES = {
    "emphasis": "a **b** *c* ***d*** and ~~gone~~, **two `words`** here",
    "stars that are none": r"2 * 3 * 4, 2\*3\*4, \*\*not bold\*\*, snake_case, \_not so\_, 5* hotel",
    "code": "use `x_y`, `` a`b `` and `<b>`",
    "code block": "```python\ndef f():\n\n    return '<x> & y'  \n```",
    "code block without a language": "before\n\n```\n  indented\n```\n\nafter",
    "code block in a code block": "````md\n```\na`b\n```\n````",
    "list": "- one\n- two\n\ntext\n\n1. a\n2. b",
    "list that starts later": "3. three\n4. four",
    "nested lists": "- one\n  - two\n    1. x\n    2. y\n  - three\n- four",
    "list of blocks": "- one\n\n  more of it\n\n  ```sh\n  ls\n\n  pwd\n  ```\n\n- two",
    "quote": "> q1\n>\n> - a\n> - b\n\ntext\n\n> q2",
    "table": "| a | b | c |\n|---|--:|:-:|\n| 1\\|2 | `x` | **y** |\n|  | [l](http://h/u) | z |",
    "headings": "# H1\n\ntext\n\n## H2 `c`\n\n###### H6",
    "links": 'see [a *b*](http://h/a_b?c=d&e "the title"), <http://h/x_y> and ![alt](http://h/i.png)',
    "breaks": "one  \ntwo\nthree\n\n---\n\nfour",
    "markup that is text": "a < b && c > d, 5 &amp;lt; 6, \\<div\\>, \\`tick\\`",
    "scripts": "Grüße 東京 👩‍🚀 עברית e\u0301",
}


def same(first: str, second: str) -> bool:
    """Compare HTML; where its lines are broken between elements means nothing."""
    return _normal(first) == _normal(second)


def _normal(html: str) -> str:
    return re.sub(r"\s*\n\s*(?=<)", "", html).strip()


@pytest.mark.parametrize("name", SOURCES)
def test_what_a_renderer_made_is_undone(name: str) -> None:
    html = RENDER(SOURCES[name])
    made = from_html(html)
    assert same(RENDER(made), html), made


@pytest.mark.parametrize(
    "name", ["emphasis", "code block", "code block in a code block", "nested lists", "quote", "headings", "scripts"]
)
def test_the_usual_forms_come_back_letter_by_letter(name: str) -> None:
    assert from_html(RENDER(SOURCES[name])) == SOURCES[name]


@pytest.mark.parametrize("file", sorted(ROOT.glob("docs/*.md")), ids=lambda file: str(file.stem))
def test_whole_documents(file: Path) -> None:
    html = RENDER(file.read_text())
    assert same(RENDER(from_html(html)), html)


@given(st.text(alphabet="ab *_`<>~|[]()#-1.\\\n&;", max_size=40))
@settings(max_examples=size(60, 300), deadline=None)
def test_code_is_kept_whatever_is_in_it(code: str) -> None:
    html = RENDER(f"~~~~~~~~~~js\n{code}\n~~~~~~~~~~")
    assert RENDER(from_html(html)) == html


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ('<div class="code_wrap"><button>copy</button><pre><code class="hljs language-js">a</code></pre></div>', "js"),
        ('<pre data-language="rust"><code>a</code></pre>', "rust"),
        ('<div class="highlight-source-go"><pre>a</pre></div>', "go"),
        ('<pre><code class="language-plaintext">a</code></pre>', ""),
    ],
)
def test_a_code_blocks_language_is_where_highlighters_note_it(html: str, markdown: str) -> None:
    assert from_html(html) == f"```{markdown}\na\n```"


def test_lines_of_code_may_be_broken_by_elements() -> None:
    assert from_html("<pre><code>a<br><span>b</span>\nc</code></pre>") == "```\na\nb\nc\n```"


def test_formulas_come_once_as_tex() -> None:
    inner = (
        '<span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi>'
        '<annotation encoding="application/x-tex">x^2</annotation></semantics></math></span>'
        '<span class="katex-html" aria-hidden="true">x2</span></span>'
    )
    assert from_html(f"<p>so {inner} is</p>") == "so $x^2$ is"
    assert from_html(f'<span class="katex-display">{inner}</span>') == "$$\nx^2\n$$"
    assert from_html(f'<p>so <span class="katex-display">{inner}</span></p>') == "so $$x^2$$"


def test_what_is_no_text_is_left_out() -> None:
    html = "<p>a<button>Copy</button><svg><text>x</text></svg><span hidden>y</span></p><style>p{}</style>"
    assert from_html(html) == "a"


def test_what_only_a_style_sheet_draws() -> None:
    html = '<p><span data-drawn="strong">a</span> <span data-drawn="em">b</span> <span data-drawn="">c</span></p>'
    assert from_html(html) == "**a** *b* c"
    assert from_html('<pre><code><span data-drawn="strong">def</span></code></pre>') == "```\ndef\n```"


def test_tasks() -> None:
    html = "<ul><li><input type=checkbox checked disabled> done</li><li><input type=checkbox disabled> to do</li></ul>"
    assert from_html(html) == "- [x] done\n- [ ] to do"


def test_a_page_that_nests_without_end_is_read_as_text() -> None:
    assert from_html("<div>" * 3000 + "deep") == "deep"


@pytest.mark.parametrize("span", ["9" * 5_000, "9" * 9, "0", "00002", "\u00b2", "-1", ""])
def test_a_span_of_any_length_is_bounded(span: str) -> None:
    assert from_html(f'<ol start="{span}"><li>a</li></ol>').endswith(". a")
    assert len(from_html(f'<table><tr><th colspan="{span}">a</th></tr><tr><td>b</td></tr></table>')) < 2_000


def test_a_list_may_begin_at_zero() -> None:
    assert from_html('<ol start="0"><li>a</li></ol>') == "0. a"


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<!--[--> <p>echo</p><!--]-->", "echo"),
        ("<p>ec<!---->ho <!--x--><strong>so</strong></p>", "echo **so**"),
        ("<ul><!--[--><li>a<!----></li><!----><li>b</li></ul><!--]-->", "- a\n- b"),
        ("<p><span>snake</span><span>_case</span><span> and</span></p>", "snake_case and"),
    ],
)
def test_comments_and_the_pieces_of_a_text_make_no_difference(html: str, markdown: str) -> None:
    assert from_html(html) == markdown


@pytest.mark.parametrize("words", ["after", "\n<em>after</em>"])
@pytest.mark.parametrize(
    "around", ["{}", "<ul><li>{}</li></ul>", "<ul><li>x {}</li></ul>", "<blockquote>{}</blockquote>"]
)
@pytest.mark.parametrize(
    "block",
    [
        *("<p>a</p>", "<ul><li>a</li></ul>", "<ol><li>a</li></ol>", "<ol><li></li></ol>", "<pre>a</pre>", "<hr>"),
        *(
            "<blockquote>a</blockquote>",
            "<h3>a</h3>",
            "<h2>a<br>b</h2>",
            "<div>a</div>",
            "<dl><dt>a</dt><dd>b</dd></dl>",
        ),
        *("<table><tr><th>a</th></tr></table>", "<details><summary>a</summary>b</details>"),
    ],
)
def test_words_after_a_block_are_no_part_of_it(block: str, around: str, words: str) -> None:
    *before, last = [line.strip(" >*") for line in from_html(around.format(block + words)).split("\n")]
    assert last == "after"
    assert not before or before[-1] in ("", "```")


@pytest.mark.parametrize(
    "source",
    [
        r"\# no heading",
        r"1\. no item",
        r"\- no item",
        r"\[no link\](http://h/)",
        r"a \\* b",
        "5* hotel and 3* hotel",
        "- tight\n\n  loose\n\n- two",
        "- one\n\n* other list",
        "`` `a` ``, ` a ` and `a  b`",
        '<sub>2</sub> ![a "b"](<http://h/a b>)',
    ],
)
def test_what_would_be_read_as_marks_stays_text(source: str) -> None:
    html = RENDER(source)
    assert same(RENDER(from_html(html)), html)


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<div class='CodeMirror'><pre class='CodeMirror-line'>a\u200b</pre></div>", "```\na\n```"),
        (
            "<p class='monaco-editor'><b class='view-line' style='top:9px'>b\u00a0c</b><b class='view-line'>a</b></p>",
            "```\na\nb c\n```",
        ),
        ("<p><script type='math/tex'>x</script></p>", "$x$"),
        ("<mjx-container display='true'><mjx-math data-latex='x'></mjx-math></mjx-container>", "$$\nx\n$$"),
        ("<p><kbd>Esc</kbd> H<sub>2</sub>O</p>", "<kbd>Esc</kbd> H<sub>2</sub>O"),
        (
            "<p><a href='mailto:a@b.c'>mail</a> <a href='https://h/x'>https://h/x</a></p>",
            "[mail](mailto:a@b.c) <https://h/x>",
        ),
    ],
)
def test_what_only_some_pages_draw(html: str, markdown: str) -> None:
    assert from_html(html) == markdown
