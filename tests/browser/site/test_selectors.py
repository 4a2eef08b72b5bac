"""Selectors of a site file: what dom.js is given, what is refused, and that both find what Playwright finds."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, Page

from browser.capture import scripts
from browser.errors import PageBroken, SiteError
from browser.page.locate import locate_all
from browser.page.tab import Tab
from browser.site.load import parse_site
from browser.site.selectors import css_selector, page_path, step_selector


def chains(selector: str) -> list[list[list[tuple[str, str]]]]:
    return [css["chains"] for css in page_path(selector)]


@pytest.mark.parametrize(
    ("selector", "parsed"),
    [
        ("#a", [[[("#a", "")]]]),
        ("a b>c", [[[("c", ">"), ("b", " "), ("a", "")]]]),
        ("a , b ~ c", [[[("a", "")], [("c", "~"), ("b", "")]]]),
        ("a:is(b > c, d) + e", [[[("e", "+"), ("a:is(b > c, d)", "")]]]),
        ("""[a=") >>> ("] b\\,c""", [[[("b\\,c", " "), ("""[a=") >>> ("]""", "")]]]),
        ("iframe>>>frame >>> a b", [[[("iframe", "")]], [[("frame", "")]], [[("b", " "), ("a", "")]]]),
        ("p:nth-child(2n + 1)::part(x)", [[[("p:nth-child(2n + 1)::part(x)", "")]]]),
    ],
)
def test_a_selector_is_taken_apart(selector: str, parsed: list[list[list[tuple[str, str]]]]) -> None:
    assert chains(selector) == parsed


PLAYWRIGHTS = [
    "text=Send",
    "css=#a",
    "*css=a >> b",
    "data-testid=send",
    "xpath=//button",
    "//button",
    "(//button)[1]",
    "..",
    '"Send"',
    "'Send'",
    "a >> b",
    "button:has-text('New chat')",
    "a :text('x') b",
    "a:text-is('x')",
    "a:not(:visible)",
    "iframe >>> text=Send",
    "text=frame >>> a",
    ":nth-match(a, 2)",
    "a:right-of(b)",
]


@pytest.mark.parametrize("selector", PLAYWRIGHTS)
def test_what_is_playwrights_alone_is_a_steps(selector: str) -> None:
    assert step_selector(selector) == selector
    with pytest.raises(ValueError, match="Playwright"):
        css_selector(selector)


@pytest.mark.parametrize(
    ("selector", "problem"),
    [
        (" ", "is empty"),
        ("a >>> ", "needs a selector on each side of >>>"),
        (">>> a", "needs a selector on each side of >>>"),
        ("a[b", "a [ is not closed"),
        ("a:not(b", "a ( is not closed"),
        ("a]", "a ] with nothing that it closes"),
        ("a:not(b]", "a ] with nothing that it closes"),
        ("a[b='c]", "a quote is not closed"),
        ("> a", "nothing before '>'"),
        ("a > > b", "nothing before '>'"),
        ("a,", "nothing after ','"),
        ("a >", "nothing after '>'"),
        (", a", "nothing before ','"),
        ("li:first", "jQuery's"),
        ("li:contains('x')", "jQuery's"),
    ],
)
def test_what_is_no_selector_is_refused_everywhere(selector: str, problem: str) -> None:
    for check in (css_selector, step_selector):
        with pytest.raises(ValueError, match=re.escape(problem)):
            check(selector)


SITE = """\
name = "mine"
url = "http://127.0.0.1/"
[login]
logged_in = [{ selector = "#a" }]
logged_out = [{ selector = "#b" }]
[fresh_chat]
actions = [{ click = "#c" }]
[input]
selector = "#d"
[upload]
selector = "#e"
done = "#f"
[send]
actions = [{ press = "Enter", on = "#g" }]
[stop]
answering = "#h"
[capture.dom]
answer = "#i"
done = "#j"
busy = "#k"
error = "#l"
reasoning = "#m"
ignore = "#n"
[readiness]
selector = "#o"
[[models]]
name = "small"
"""
STEPS = {"#c", "#d", "#e", "#g"}


@pytest.mark.parametrize("selector", re.findall(r'"(#\w)"', SITE))
def test_every_key_refuses_what_it_cannot_take_when_the_file_is_read(selector: str) -> None:
    line = SITE[: SITE.index(f'"{selector}"')].count("\n") + 1

    def read(given: str) -> None:
        parse_site(SITE.replace(f'"{selector}"', f"'{given}'"), "mine.toml")

    read("p#x > a, b")
    with pytest.raises(SiteError, match=rf"line {line}: .*a \[ is not closed"):
        read("a[b")
    if selector in STEPS:
        read('button:has-text("Stop")')
        read("text=Stop")
    else:
        with pytest.raises(SiteError, match=rf"line {line}: .*:has-text\(\) is Playwright's and works in steps only"):
            read('button:has-text("Stop")')
    if selector == "#n":
        with pytest.raises(SiteError, match=rf"line {line}: capture.dom.ignore: >>> has no place here"):
            read("iframe >>> .a")
    else:
        read("iframe >>> .a")


# Each letter is an element's id; "host" and its like have open roots, "closed" has one that nobody may look into.
NESTED = """<div id=a class=x><p id=b class=y></p></div><div id=host class=x lang=en></div>
<div id=c class="x y"></div><div id=closed></div><iframe id=f></iframe><script>
  const root = (host, html, mode = "open") => Object.assign(host.attachShadow({ mode }), { innerHTML: html });
  const host = document.getElementById("host");
  const outer = root(host, `<p id=d class=y></p><section id=inner class=x><i id=light></i></section>
    <p id=e class=y></p>`);
  root(outer.getElementById("inner"), `<style></style><p id=g class="y z"></p><p id=h class=y><b id=i></b></p>`);
  root(document.getElementById("closed"), "<p id=never class=y></p>", "closed");
  const inside = document.getElementById("f").contentDocument;
  inside.body.innerHTML = "<main id=j></main><p id=k class=y></p>";
  root(inside.getElementById("j"), "<p id=l class=y></p>");
</script>"""
FOUND = {
    ".y": "b d g h e c",
    ".x .y": "b d g h e",
    ".x > .y": "b d g h e",
    "#host .y": "d g h e",
    "#host > .y": "d e",
    "#host > #inner > .y": "g h",
    "div .x .y": "g h",
    "body .z + p b": "i",
    ".z ~ .y": "h",
    "p ~ .y": "h e",
    "#d + .x > .z": "g",
    ".x:not(div) p": "g h",
    "#inner > i": "light",
    "#inner i, #host b, #a": "a i light",
    "div:lang(en) b": "i",
    "#never": "",
    "p p": "",
    "#f >>> .y": "l k",
    "#f >>> main > p": "l",
    "#host >>> p": "",
    "#nothing >>> p": "",
}
IDS = f"""(path) => {{
  const dom = {scripts.DOM}();
  return Array.from(dom.findAll(path), (element) => element.id).join(" ");
}}"""


@pytest.fixture(scope="module")
async def nested(browser: Browser) -> Page:
    page = await browser.new_page()
    await page.set_content(NESTED)
    return page


@pytest.mark.parametrize("selector", FOUND)
async def test_it_finds_what_playwright_finds_in_the_order_of_the_page(nested: Page, selector: str) -> None:
    found: str = await nested.evaluate(IDS, page_path(selector))
    assert found == FOUND[selector]
    if selector != "#host >>> p":  # to Playwright that is a mistake
        playwrights = await locate_all(nested, selector).evaluate_all("(all) => all.map((element) => element.id)")
        assert sorted(playwrights) == sorted(found.split())


async def test_a_selector_that_the_browser_does_not_know_is_named(nested: Page) -> None:
    site = parse_site(SITE.replace("#b", "p:newest"), "mine.toml")
    with pytest.raises(PageBroken, match="the browser knows no such selector: 'p:newest'"):
        await Tab(nested, site).look()
