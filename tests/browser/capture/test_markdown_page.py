"""Answers of a page that lays Markdown out: read from the page as Markdown, and held against its traffic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from browser.errors import CaptureGap
from browser.settings import EngineName
from tests.browser.asking import ask
from tests.browser.conftest import Pages, tab_of
from tests.browser.markdown_page import MarkdownPage, markdown_page
from tests.browser.profiles import no_login

NO_LOGIN = no_login()
ANSWER = """# A title with `code`

Some **bold**, *slanted* and ~~struck~~ words, a [link](http://h/a_b?c=d) and 2 < 3.

- one
  - two
    1. deep
    2. deeper
- three

```python
def f(x: int) -> str:

    return f"<{x}> & so on"
```

| name | value |
| --- | --: |
| a | 1 |
| b | `2` |

> a quote
>
> of two paragraphs

```tool_call
{"name": "weather", "arguments": {"city": "Oslo"}}
```

The end, 東京 👩‍🚀."""


@pytest.fixture
async def markdown() -> AsyncIterator[MarkdownPage]:
    async with markdown_page() as page:
        yield page


@pytest.mark.parametrize("engine", ["chromium", pytest.param("firefox", marks=pytest.mark.firefox)])
async def test_an_answer_read_from_the_page_is_markdown(
    shared_pages: Pages, markdown: MarkdownPage, engine: EngineName
) -> None:
    page = await shared_pages.open(markdown.site(network=False), NO_LOGIN, engine=engine)
    assert page.status.capture == "dom"
    for _ in range(2):
        assert await ask(page, ANSWER, "markdown") == ANSWER


async def test_blocks_that_are_complete_are_passed_on_while_the_answer_is_written(
    shared_pages: Pages, markdown: MarkdownPage
) -> None:
    page = await shared_pages.open(markdown.site(network=False), NO_LOGIN)
    answer = f"first\n\nsecond **bold**\n\n{'x' * 20} [[hold]] third"
    async with aclosing(page.ask("a", answer, "markdown")) as pieces:
        text = ""
        while "second **bold**" not in text:
            text += await anext(pieces)
        assert answer.startswith(text)
        markdown.held_back.set()
        assert text + "".join([piece async for piece in pieces]) == answer


async def test_words_that_are_complete_are_passed_on_inside_a_paragraph(
    shared_pages: Pages, markdown: MarkdownPage
) -> None:
    page = await shared_pages.open(markdown.site(network=False), NO_LOGIN)
    answer = "one **paragraph** of `words` that [[hold]] until *they* go on"
    async with aclosing(page.ask("a", answer, "markdown")) as pieces:
        text = ""
        while "one **paragraph** of `words`" not in text:
            text += await anext(pieces)
        assert answer.startswith(text)
        markdown.held_back.set()
        assert text + "".join([piece async for piece in pieces]) == answer


LATE = "before the code\n\n```python\nx = 1\n```\n\nafter the code [[hold]] and more"
UNITS = "right *until* it comes 👩\u200d🚀 and what then [[hold]] follows"


@pytest.mark.parametrize("hooked", [True, False], ids=["hook", "poll"])
@pytest.mark.parametrize(
    ("twist", "more", "answer"),
    [
        ("late", "loading = '.skeleton'", LATE),
        ("units", r"hold_from = '[\ufffd\U00010000-\U0010ffff]'", UNITS),
    ],
    ids=["late", "units"],
)
async def test_what_the_page_shows_wrong_until_the_end_is_held_back(  # noqa: PLR0917 - fixtures, and a table
    shared_pages: Pages, markdown: MarkdownPage, twist: str, more: str, answer: str, hooked: bool
) -> None:
    page = shared_pages.make(markdown.site(network=False, twist=twist, more=more), NO_LOGIN)
    if not hooked:
        page._capture.init_script = lambda: ""  # type: ignore[method-assign]
    await page.start()
    pieces: list[str] = []

    async def read() -> None:
        pieces.extend([piece async for piece in page.ask("a", answer, "markdown")])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        shows = tab_of(page).page
        # What is wrong shows for some looks.
        await shows.wait_for_selector(".skeleton + p" if twist == "late" else "text=what is wrong")
        await shows.evaluate("() => new Promise((resolve) => setTimeout(resolve, 500))")
        markdown.held_back.set()
    assert "".join(pieces) == answer


async def test_without_the_hook_too(shared_pages: Pages, markdown: MarkdownPage) -> None:
    page = shared_pages.make(markdown.site(), NO_LOGIN)
    page._capture.init_script = lambda: ""  # type: ignore[method-assign]
    await page.start()
    assert page.status.capture == "dom"
    assert await ask(page, ANSWER, "markdown") == ANSWER


async def test_an_answer_of_the_traffic_that_the_page_shows_too(shared_pages: Pages, markdown: MarkdownPage) -> None:
    page = await shared_pages.open(markdown.site(verify=True), NO_LOGIN)
    assert page.status.capture == "network"
    assert await ask(page, ANSWER, "markdown") == ANSWER


async def test_an_answer_of_the_traffic_that_the_page_does_not_show(
    shared_pages: Pages, markdown: MarkdownPage
) -> None:
    page = await shared_pages.open(markdown.site(verify=True, twist="other"), NO_LOGIN)
    with pytest.raises(CaptureGap, match=r"shows another answer .*capture\.verify") as caught:
        await ask(page, ANSWER, "markdown")
    assert caught.value.submitted
    unchecked = await shared_pages.open(markdown.site(twist="other"), {"cookies": [_cookie()], "origins": []})
    assert await ask(unchecked, ANSWER, "markdown") == ANSWER


async def test_an_answer_that_the_page_rewrites_is_said_to_be_rewritten(
    shared_pages: Pages, markdown: MarkdownPage
) -> None:
    page = await shared_pages.open(markdown.site(network=False, twist="other"), NO_LOGIN)
    asking = aclosing(page.ask("rewritten", "first block\n\nsecond [[hold]] block\n\nthird", "markdown"))
    async with asking as pieces:
        assert "first block" in await anext(pieces)
        markdown.held_back.set()
        with pytest.raises(CaptureGap, match=r"the page rewrote text .*capture\.dom\.stream = false"):
            async for _ in pieces:
                pass


async def test_what_the_page_shows_beyond_its_traffic_is_added(shared_pages: Pages, markdown: MarkdownPage) -> None:
    page = await shared_pages.open(markdown.site(verify=True, twist="bare", read="text"), NO_LOGIN)
    assert await ask(page, "the answer", "markdown") == "the answer (and more)"


def _cookie() -> dict[str, object]:
    """A login of its own: one login is not let into two browsers."""
    return {"name": "a", "value": "b", "domain": "127.0.0.1", "path": "/", "expires": -1}
