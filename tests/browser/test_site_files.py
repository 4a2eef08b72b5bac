from __future__ import annotations

import re
from pathlib import Path

import pytest

from browser.errors import SiteError
from browser.site import SITES_DIR, load_site, parse_site
from browser.site_schema import glob_to_regex

GOOD = """\
name = "mine"
url = "https://chat.example.com/app"

[login]
logged_in = [{ selector = "#me" }]

[fresh_chat]
actions = [
  { click = "#new" },
]

[input]
selector = "textarea"

[send]
actions = [{ press = "Enter" }]

[capture.network]
kind = "sse"
url = "*/api/chat"
text = "data.text"

[[models]]
name = "small"

[[models]]
name = "large"
choose = [{ select = "#model", value = "{model}" }]
"""


def test_a_good_file() -> None:
    site = parse_site(GOOD, "mine.toml")
    assert site.models == ("small", "large")
    assert site.origin == "https://chat.example.com"
    assert site.input.methods == ("setter", "fill")


@pytest.mark.parametrize("file", sorted(SITES_DIR.glob("*.toml")), ids=lambda file: str(file.stem))
def test_every_file_that_is_shipped_is_good(file: Path) -> None:
    assert load_site(file.stem) == load_site(str(file))
    assert load_site(file.stem).name == file.stem


# what is wrong: old text, new text, the line and the key of the error, and what it must say
MISTAKES = [
    ('name = "mine"\n', "", 1, "name", "is missing; expected: a short name"),
    ('name = "mine"', 'name = "My Site"', 1, "name", "should match pattern"),
    ('name = "mine"', "name = 3", 1, "name", "should be a valid string"),
    ('"https://chat.example.com/app"', '"chat.example.com"', 2, "url", "must be an http:// or https:// address"),
    ("[login]\n", "[login]\nlogin_url = 'x'\n", 5, "login.login_url", "one of: logged_in, logged_out, check"),
    ('[{ selector = "#me" }]', "[]", 5, "login.logged_in", "should have at least 1 item; expected: a list of markers"),
    ('{ selector = "#me" }', "{ }", 5, "login.logged_in[0]", "needs a selector or a url"),
    ('{ selector = "#me" }', '{ css = "#me" }', 5, "login.logged_in[0].css", "expected one of: selector, url"),
    ('{ click = "#new" }', '{ click = "#new", goto = "/" }', 9, "fresh_chat.actions[0]", "needs exactly one of goto"),
    ('{ click = "#new" }', '{ tap = "#new" }', 9, "fresh_chat.actions[0].tap", "unknown key; expected one of: goto"),
    ('{ press = "Enter" }', '{ press = "Enter", value = "x" }', 16, "send.actions[0]", "value goes with fill"),
    ('selector = "textarea"', 'selector = ""', 13, "input.selector", "at least 1 character"),
    ('selector = "textarea"', 'selector = "a"\nmethods = ["type"]', 14, "input.methods[0]", "'setter', 'fill'"),
    ('kind = "sse"', 'kind = "xml"', 19, "capture.network.kind", "'sse', 'jsonl' or 'websocket'"),
    ('kind = "sse"', 'kind = "websocket"', 18, "capture.network", "needs end or end_data"),
    ('"data.text"', '"data.["', 21, "capture.network.text", "must be a JMESPath expression"),
    ('text = "data.text"', "", 18, "capture.network", "needs text or whole"),
    ('kind = "sse"', 'kind = "sse"\nready_frames = ["5"]', 18, "capture.network", "goes with kind = 'websocket'"),
    ("capture.network", "capture.traffic", 18, "capture.traffic", "unknown key; expected one of: network, dom"),
    ('name = "large"', 'name = "small"', 23, "models", "each model's name may stand there once"),
    (', value = "{model}"', "", 28, "models[1].choose[0]", "value goes with fill and select"),
    ("[send]", "[[refusals]]\ntext = 'x'\nmeans = 'no'\n[send]", 17, "refusals[0].means", "'quota', 'login_expired'"),
]


@pytest.mark.parametrize(("old", "new", "line", "key", "says"), MISTAKES, ids=[f"{m[3]}-{m[1]}" for m in MISTAKES])
def test_a_mistake_is_named_with_its_line(old: str, new: str, line: int, key: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(SiteError) as caught:
        parse_site(GOOD.replace(old, new), "mine.toml")
    message = str(caught.value)
    assert message.startswith(f"site file mine.toml, line {line}: {key}: "), message
    assert says in message
    assert "\n" not in message


def test_text_that_is_no_toml_has_its_line() -> None:
    with pytest.raises(SiteError, match=r"mine\.toml: not valid TOML: .*line 2"):
        parse_site('name = "x"\nurl = \n', "mine.toml")


def test_several_mistakes_are_counted() -> None:
    with pytest.raises(SiteError, match=r"line 1: name: .* \(and 1 more\)$"):
        parse_site(GOOD.replace('"mine"', "1").replace('"sse"', '"xml"'), "mine.toml")


def test_a_name_that_is_not_there_gets_the_names_that_are() -> None:
    with pytest.raises(SiteError, match=r"known: .*demo"):
        load_site("nowhere")


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(SiteError, match=r"nowhere\.toml: cannot read it: No such file"):
        load_site("./nowhere.toml")


@pytest.mark.parametrize(
    ("override", "url"),
    [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000/app"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000/app"),
        ("http://127.0.0.1:9000/other?x=1", "http://127.0.0.1:9000/other?x=1"),
    ],
)
def test_the_environment_moves_a_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, override: str, url: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    monkeypatch.setenv("SITE_URL", override)
    assert load_site(str(file)).url == url


def test_a_wrong_override_is_blamed_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_URL", "localhost:3")
    with pytest.raises(SiteError, match=r"^SITE_URL: must be an http"):
        load_site("demo")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Example.COM:443/a", "https://example.com"),
        ("http://127.0.0.1:8800/chat", "http://127.0.0.1:8800"),
        ("http://[::1]:80/", "http://[::1]"),
    ],
)
def test_the_origin_is_what_a_browser_says(url: str, origin: str) -> None:
    assert parse_site(GOOD, "mine.toml", url=url).origin == origin


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("*/api/chat", "http://h/api/chat", True),
        ("*/api/chat", "http://h/api/chat?x=1", False),
        ("*/api/chat*", "http://h/api/chat?x=1", True),
        ("http://h/a.b?c", "http://h/a.b?c", True),
        ("http://h/a.b?c", "http://h/axb?c", False),
        ("*/c/*/stream", "http://h/c/1-2/stream", True),
    ],
)
def test_patterns(pattern: str, url: str, matches: bool) -> None:
    assert bool(re.match(glob_to_regex(pattern), url)) == matches
