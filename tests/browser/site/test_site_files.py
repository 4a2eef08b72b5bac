from __future__ import annotations

import re
from pathlib import Path

import pytest

from browser.errors import SiteError
from browser.site.load import SITES_DIR, load_site, parse_site
from browser.site.schema import glob_to_regex
from contract.toml_lines import key_lines

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


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("call_begin = '```'", "line 30: prompt: call_begin and call_end must differ"),
        ("call_begin = '%'\ncall_end = '%'", "line 30: prompt: call_begin and call_end must differ"),
        ('call_begin = "<call>\\n"', "line 31: prompt.call_begin: must be one line, without white space"),
        (
            "json_object = 'Give {json}.'",
            "line 31: prompt.json_object: there is no placeholder {json}; known here: none",
        ),
        ("json_schema = 'Give JSON.'", "line 31: prompt.json_schema: needs the placeholder {schema}"),
        ("repair_call = '{problem}'", "line 31: prompt.repair_call: needs the placeholder {call}"),
        ("repair_json = 'Again.'", "line 31: prompt.repair_json: needs the placeholder {problem}"),
    ],
)
def test_the_words_of_a_prompt_are_checked_when_the_file_is_read(prompt: str, problem: str) -> None:
    with pytest.raises(SiteError, match=re.escape(problem)):
        parse_site(f"{GOOD}\n[prompt]\n{prompt}\n", "mine.toml")


def test_a_byte_order_mark_and_crlf_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(("\ufeff" + GOOD.replace("\n", "\r\n")).encode())
    assert load_site(str(file)).origin == "https://chat.example.com"


@pytest.mark.parametrize("file", sorted(SITES_DIR.glob("*.toml")), ids=lambda file: str(file.stem))
def test_every_file_that_is_shipped_is_good(file: Path) -> None:
    assert load_site(file.stem) == load_site(str(file))
    assert load_site(file.stem).name == file.stem


# what is wrong: old text, new text, the line and the key of the error, and what it must say
MISTAKES = [
    ('name = "mine"\n', "", 1, "name", "is missing; expected: a short name"),
    ('name = "mine"', 'name = "My Site"', 1, "name", "should match pattern"),
    ('name = "mine"', "name = 3", 1, "name", "should be text"),
    ('"https://chat.example.com/app"', '"chat.example.com"', 2, "url", "must be an http:// or https:// address"),
    ('"https://chat.example.com/app"', '"file:///app.html"', 2, "url", "must be an http:// or https:// address"),
    ("[login]\n", "[login]\nlogin_url = 'x'\n", 5, "login.login_url", "one of: none, logged_in, logged_out, check"),
    ('logged_in = [{ selector = "#me" }]', "", 4, "login", "needs logged_in, a list of markers of which one holds"),
    ("[login]\n", "[login]\nnone = true\n", 4, "login", "logged_in cannot stand beside none = true"),
    (
        'logged_in = [{ selector = "#me" }]',
        "none = true\ncheck = { url = '/', expired_status = [403] }",
        4,
        "login",
        "check.expired_status cannot stand beside none = true",
    ),
    ("[login]\n", "[login]\nsteps = [{ click = '#in' }]\n", 4, "login", "steps needs logged_out"),
    ("[login]\n", "[login]\nsteps = [{ press = 'Enter' }]\n", 5, "login.steps[0]", "press needs `on` here"),
    (
        "[login]\n",
        "[login]\nsteps = [{ fill = '#user', value = '{model}' }]\n",
        5,
        "login.steps[0]",
        "there is no {model} here",
    ),
    *(
        ("[login]\n", f"[login]\nsteps = [{step}]\n", 5, "login.steps[0]", "{secret:NAME} goes into the value of fill")
        for step in (
            "{ click = '#{secret:user}' }",
            "{ select = '#user', value = '{secret:user}' }",
            "{ fill = '#user', value = '{secret:User}' }",
            "{ fill = '#user', value = '{secret:}' }",
            "{ fill = '#user', value = '{secret}' }",
            "{ goto = '/login?key={secret:key}' }",
        )
    ),
    ('[{ selector = "#me" }]', "[]", 5, "login.logged_in", "should have at least 1 item; expected: a list of markers"),
    ('[{ selector = "#me" }]', '"#me"', 5, "login.logged_in", "should be a list; expected: a list of markers"),
    ('{ selector = "#me" }', "{ }", 5, "login.logged_in[0]", "needs a selector or a url"),
    ('{ selector = "#me" }', '{ css = "#me" }', 5, "login.logged_in[0].css", "expected one of: selector, url"),
    ("[fresh_chat]", 'check = "/me"\n[fresh_chat]', 7, "login.check", "expected: a table with url"),
    (
        "[fresh_chat]",
        'check = { url = "/me", expired_status = ["401"] }\n[fresh_chat]',
        7,
        "login.check.expired_status[0]",
        "should be a whole number; expected: the statuses",
    ),
    (
        "[fresh_chat]",
        "lost = [{ status = [401] }]\n[fresh_chat]",
        7,
        "login.lost[0].url",
        "is missing; expected: a pattern",
    ),
    (
        "[capture.network]",
        "[prompt]\ntools = 'Use {tools}.'\n[capture.network]",
        19,
        "prompt.tools",
        "needs the placeholder {call}; expected: how tools are told of",
    ),
    (
        "[capture.network]",
        "[prompt]\ntools = '{call} {tools} {when}'\n[capture.network]",
        19,
        "prompt.tools",
        "there is no placeholder {when}; known here: {call}, {tools}, {count}, {choice}",
    ),
    (
        "[capture.network]",
        "[prompt]\ncall_begin = '<call> '\n[capture.network]",
        19,
        "prompt.call_begin",
        "must be one line, without white space around it",
    ),
    ("[fresh_chat]", "[fresh_chats]", 1, "fresh_chat", "is missing; expected: a table: how to open"),
    (
        "[fresh_chat]",
        "[fresh_chat]\nanswers = -1",
        8,
        "fresh_chat.answers",
        "greater than or equal to 0; expected: how many",
    ),
    ('{ click = "#new" }', '{ click = "#new", goto = "/" }', 9, "fresh_chat.actions[0]", "needs exactly one of goto"),
    (
        '{ click = "#new" }',
        '{ fill = "#new", value = "{secret:user}" }',
        9,
        "fresh_chat.actions[0]",
        "{secret:...} goes into login.steps only",
    ),
    ('{ click = "#new" }', '{ tap = "#new" }', 9, "fresh_chat.actions[0].tap", "unknown key; expected one of: goto"),
    ('{ click = "#new" }', '"#new"', 9, "fresh_chat.actions[0]", "should be a table; expected: the steps that open"),
    (
        '{ click = "#new" }',
        '{ click = "#new", timeout_s = 0 }',
        9,
        "fresh_chat.actions[0].timeout_s",
        "greater than 0; expected: how long the step may take, in seconds",
    ),
    ('{ click = "#new" }', '{ click = "#new", on = "body" }', 9, "fresh_chat.actions[0]", "on goes with press only"),
    (
        '{ click = "#new" }',
        '{ click = "#new", dialog = "ok" }',
        9,
        "fresh_chat.actions[0].dialog",
        "'accept' or 'dismiss'",
    ),
    (
        '{ click = "#new" }',
        '{ goto = "/", dialog = "accept" }',
        9,
        "fresh_chat.actions[0]",
        "dialog goes with click, press",
    ),
    ('{ press = "Enter" }', '{ press = "Enter", value = "x" }', 16, "send.actions[0]", "value goes with fill"),
    (
        '[{ press = "Enter" }]',
        '{ press = "Enter" }',
        16,
        "send.actions",
        "should be a list; expected: the steps that send",
    ),
    ('selector = "textarea"', 'selector = ""', 13, "input.selector", "at least 1 character"),
    ('selector = "textarea"', 'selector = "a"\nmethods = ["type"]', 14, "input.methods[0]", "'setter', 'fill'"),
    (
        'selector = "textarea"',
        'selector = "a"\nmethods = []',
        14,
        "input.methods",
        "at least 1 item; expected: the ways",
    ),
    (
        'selector = "textarea"',
        'selector = "a"\nmethods = ["lines"]',
        12,
        "input",
        "line_break goes with the method lines",
    ),
    (
        'selector = "textarea"',
        'selector = "a"\nmethods = ["lines"]\nline_break = "Return"',
        15,
        "input.line_break",
        "the key that breaks a line",
    ),
    (
        'selector = "textarea"',
        'selector = "a"\nmethods = ["lines"]\nline_break = "Enter"',
        17,
        "send",
        "the key that sends the prompt cannot be input.line_break too",
    ),
    ('kind = "sse"', 'kind = "xml"', 19, "capture.network.kind", "'sse', 'jsonl', 'websocket' or 'msgpack'"),
    ('kind = "sse"', 'kind = "sse"\nend_after = "data.begun"', 18, "capture.network", "needs end or end_data"),
    ('kind = "sse"', 'kind = "websocket"', 18, "capture.network", "needs end or end_data"),
    (
        'url = "*/api/chat"',
        "",
        18,
        "capture.network.url",
        "is missing; expected: a pattern of the request's full address",
    ),
    ('"data.text"', '"data.["', 21, "capture.network.text", "must be a JMESPath expression"),
    ('text = "data.text"', "", 18, "capture.network", "needs text or whole"),
    (
        'text = "data.text"',
        'whole = "data.text"\nchanges = "data.diff"',
        18,
        "capture.network",
        "document and changes go together",
    ),
    ('text = "data.text"', 'text = "data.text"\nbegins = "data.id"', 18, "capture.network", "begins needs message"),
    ('kind = "sse"', 'kind = "sse"\nready_frames = ["5"]', 18, "capture.network", "goes with kind = 'websocket'"),
    ("capture.network", "capture.traffic", 18, "capture.traffic", "unknown key; expected one of: network, dom"),
    ("[capture.network]", "[capture]\nverify = true\n[capture.network]", 18, "capture", "verify needs both tables"),
    (
        '[[models]]\nname = "small"',
        "[capture.dom]\nanswer = 'p'\n[[models]]\nname = \"small\"",
        23,
        "capture.dom",
        "needs done or busy, to know when an answer is complete",
    ),
    (
        '[[models]]\nname = "small"',
        "[capture.dom]\nanswer = 'p'\ndone = 'i'\nread = 'html'\n[[models]]\nname = \"small\"",
        26,
        "capture.dom.read",
        "'text', 'rendered' or 'markdown'; expected: text: as it stands in the page",
    ),
    ('name = "large"', 'name = "small"', 23, "models", "each model's name may stand there once"),
    (', value = "{model}"', "", 28, "models[1].choose[0]", "value goes with fill and select"),
    ("[send]", "[[refusals]]\ntext = 'x'\nmeans = 'no'\n[send]", 17, "refusals[0].means", "'quota', 'login_expired'"),
    ("[send]", "[send]\nrequest = '*/api/send'", 16, "send.request", "should be a table"),
    ("[send]", "[send]\nrequest = { method = 'POST' }", 16, "send.request.url", "is missing"),
    ("[send]", "[[refusals]]\nmeans = 'quota'\n[send]", 15, "refusals[0]", "needs text or status"),
    (
        "[send]",
        "[[refusals]]\nstatus = 200\nmeans = 'quota'\n[send]",
        16,
        "refusals[0].status",
        "greater than or equal to 400",
    ),
    (
        "[send]",
        "[[refusals]]\nstatus = 429\nmeans = 'refused'\nrest_s = 9\n[send]",
        15,
        "refusals[0]",
        "rest_s goes with quota",
    ),
    (
        "[send]",
        "[upload]\nselector = 'input'\n[send]",
        15,
        "upload.done",
        "is missing; expected: a CSS selector that finds a visible element",
    ),
    (
        "[send]",
        "[readiness]\ntimeout_s = '9'\n[send]",
        16,
        "readiness.timeout_s",
        "should be a number; expected: how long",
    ),
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


@pytest.mark.parametrize("file", sorted(SITES_DIR.glob("*.toml")), ids=lambda file: str(file.stem))
def test_any_key_that_is_misspelt_is_named_with_its_line(file: Path) -> None:
    text = file.read_text()
    lines = text.splitlines()
    for path, line in key_lines(text).items():
        key = path[-1]
        if isinstance(key, str):
            misspelt = re.sub(rf"(?<![\w\"'-]){key}(?=\s*=|\.|\])", f"{key}x", lines[line - 1], count=1)
            assert misspelt != lines[line - 1], (path, line)
            with pytest.raises(SiteError) as caught:
                parse_site("\n".join([*lines[: line - 1], misspelt, *lines[line:]]), "mine.toml")
            said = re.match(r"site file mine\.toml, line (\d+): (\S+): ", str(caught.value))
            assert said, caught.value
            is_missing = said[2].endswith(key) and int(said[1]) <= line
            assert is_missing or (said[2].endswith(f"{key}x") and int(said[1]) == line), caught.value


def test_text_that_is_no_toml_has_its_line() -> None:
    with pytest.raises(SiteError, match=r"mine\.toml, line 2: url: not valid TOML: Invalid value"):
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
