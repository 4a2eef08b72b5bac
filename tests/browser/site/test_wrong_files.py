"""Site files that could never work, whatever the page does: each is refused when it is read, with the place and why."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest

from browser.errors import SiteError
from browser.site.docs import json_schema
from browser.site.load import parse_site
from contract.toml_lines import key_lines

HEAD = "name = 'mine'\nurl = 'https://chat.example.com/app'\n"
LOGIN = "login.logged_in = [{ selector = '#me' }]\n"
FRESH = "fresh_chat.actions = [{ click = '#new' }]\n"
INPUT = "input.selector = 'textarea'\n"
SEND = "send.actions = [{ press = 'Enter' }]\n"
MODELS = "models = [{ name = 'small' }]\n"
SSE = "[capture.network]\nkind = 'sse'\nurl = '*/api/chat'\ntext = 'data.t'\n"
SOCKET = "[capture.network]\nkind = 'websocket'\nurl = '*/ws'\ntext = 'data.t'\nend = 'data.done'\n"
DOM = "[capture.dom]\nanswer = '.answer'\ndone = '.done'\n"
# Everything but what a row is about; the row's text comes before `[capture.…]`, on line 1.
REST = HEAD + LOGIN + FRESH + INPUT + SEND + MODELS


def without(*left_out: str) -> str:
    """The rest of a file, without what a row writes itself."""
    text = REST
    for part in left_out:
        text = text.replace(part, "")
    return text


# What a file's first lines are, what comes after them, the line and the key of the error, and what it must say.
WRONG: list[tuple[str, str, int, str, str]] = [
    # addresses
    *(
        (f"url = '{url}'", without(HEAD) + "name = 'mine'\n" + SSE, 1, "url", says)
        for url, says in (
            ("https://chat.example.com:99999/", "whose port is a number"),
            ("https://chat.example.com:0/", "whose port is a number"),
            ("https://ada:lovelace@chat.example.com/", "must hold no user name or password"),
            ("https://chat example.com/", "without spaces"),
            (" https://chat.example.com/", "without spaces"),
            ("https://*.example.com/", "a host of letters"),
            ("https://[chat]/", "no IPv6 address"),
            ("https://bücher.example/", "as browsers send it: xn--bcher-kva.example"),
            ("chat.example.com", "must be an http:// or https:// address"),
        )
    ),
    *(
        (f"fresh_chat.actions = [{{ goto = '{goto}' }}]", without(FRESH) + SSE, 1, "fresh_chat.actions[0].goto", says)
        for goto, says in (
            ("javascript:location.reload()", "must be an http:// or https:// address"),
            ("localhost:3000/new", "must be an http:// or https:// address"),
            ("https://chat.example.com:port/", "whose port is a number"),
            ("/chat/*", "* is for patterns"),
            ("/new ", "without white space around it"),
            ("chat.example.com/new", "begins with the site's host: needs https:// before it"),
            ("/new?model={model}", "there is no placeholder {model} here; {model} is known in models.choose"),
        )
    ),
    ("login.check = { url = '*/api/me' }", REST + SSE, 1, "login.check.url", "* is for patterns"),
    ("login.check = { url = 'ftp://h/me' }", REST + SSE, 1, "login.check.url", "an http:// or https:// address"),
    # patterns of addresses
    *(
        (f"url = '{url}'\nkind = 'sse'\ntext = 'data.t'", "", 11, "capture.network.url", says)
        for url, says in (
            ("/api/chat", "matches no address: a full one begins with"),
            ("api/chat*", "begin the pattern with *"),
            ("chat.example.com/api/*", "begin the pattern with *"),
            ("^https://chat.example.com/.*", "begin the pattern with *"),
            (".*/api/chat", "begin the pattern with *"),
            ("https://Chat.example.com/api/*", "the host in lower case"),
            ("https://chat.example.com:443/api/*", "leave out the port :443"),
            ("https://chat.example.com", "a / follows the host"),
            ("*/api/{chat,send}", "its path holds no {"),
            ("*/api/(chat|send)", "its path holds no |"),
            ("*/api/my chat", "browsers encode a space"),
            ("*/café", "browsers encode 'é'"),
            ("wss://chat.example.com/ws", "matches no address of kind = 'sse'"),
        )
    ),
    (
        "url = 'https://h/ws'\nkind = 'websocket'\ntext = 'data.t'\nend = 'data.e'",
        "",
        11,
        "capture.network.url",
        "begins with ws:// or wss://",
    ),
    ("send.request = { url = '/api/send' }", REST + SSE, 1, "send.request.url", "begin the pattern with *"),
    ("send.request = { url = 'wss://h/ws' }", REST + SSE, 1, "send.request.url", "begins with http:// or https://"),
    ("login.lost = [{ url = '/api/*' }]", REST + SSE, 1, "login.lost[0].url", "begin the pattern with *"),
    ("login.logged_out = [{ url = '/login' }]", REST + SSE, 1, "login.logged_out[0].url", "begin the pattern with *"),
    # statuses, methods, numbers
    (
        "login.check = { url = '/me', expired_status = [] }",
        REST + SSE,
        1,
        "login.check.expired_status",
        "at least 1 item",
    ),
    (
        "login.check = { url = '/me', expired_status = [302] }",
        REST + SSE,
        1,
        "login.check.expired_status[0]",
        "a redirect counts as 401; found 302",
    ),
    (
        "login.check = { url = '/me', expired_status = [401, 401] }",
        REST + SSE,
        1,
        "login.check.expired_status",
        "each status may stand there once",
    ),
    *(
        (f"login.refresh = {{ {refresh} }}", REST + SSE, 1, f"login.refresh{key}", says)
        for refresh, key, says in (
            ("every_s = 60", "", "needs exactly one of visit, fetch, steps"),
            ("visit = '/a', fetch = '/b', every_s = 60", "", "needs exactly one of visit, fetch, steps"),
            ("visit = '/a', steps = [{ click = '#b' }], every_s = 60", "", "needs exactly one of visit, fetch, steps"),
            ("visit = '/a'", "", "needs every_s or before_expiry_s, or both: when it is to be done"),
            ("visit = '/a', method = 'POST', every_s = 60", "", "method goes with fetch only"),
            ("visit = '/a', done_status = [200], every_s = 60", "", "done_status goes with fetch only"),
            ("visit = '/a', own_tab = true, every_s = 60", "", "own_tab goes with steps only"),
            ("fetch = '/a', every_s = 60, done = [{ selector = '#b' }]", "", "done goes with visit and steps"),
            ("visit = '/a', every_s = 0.5", ".every_s", "greater than or equal to 1; expected: how often, in seconds"),
            ("visit = '/a', every_s = 1e7", ".every_s", "less than or equal to 2678400"),
            ("visit = '/a', before_expiry_s = '1 d'", ".before_expiry_s", "a number; expected: how long before"),
            ("visit = '/a/*', every_s = 60", ".visit", "* is for patterns"),
            ("visit = 'ftp://h/', every_s = 60", ".visit", "an http:// or https:// address"),
            ("visit = 'chat.example.com/a', every_s = 60", ".visit", "begins with the site's host"),
            ("fetch = 'chat.example.com/a', every_s = 60", ".fetch", "begins with the site's host"),
            ("fetch = '/a', method = 'Post', every_s = 60", ".method", "should be 'GET', 'POST'"),
            ("fetch = '/a', done_status = [99], every_s = 60", ".done_status[0]", "greater than or equal to 200"),
            ("fetch = '/a', done_status = [], every_s = 60", ".done_status", "at least 1 item"),
            ("steps = [{ wait_for = '#a' }], every_s = 60", ".steps", "only waits: needs a step that does something"),
            ("steps = [{ press = 'Return' }], every_s = 60", ".steps[0].press", "there is no key 'Return'"),
            (
                "steps = [{ fill = '#a', value = '{secret:password}' }], every_s = 60",
                ".steps[0]",
                "goes into login.steps only",
            ),
            ("steps = [{ goto = '/{model}' }], every_s = 60", ".steps[0].goto", "there is no placeholder {model} here"),
            ("visit = '/a', every_s = 60, done = []", ".done", "at least 1 item"),
            ("visit = '/a', every_s = 60, done = [{ url = '*' }]", ".done[0].url", "matches every address"),
            ("visit = '/a', every = 60", ".every", "unknown key; did you mean every_s?"),
            ("visit = '/a', every_s = 60, timeout_s = 0", ".timeout_s", "greater than 0"),
        )
    ),
    (
        "login = { none = true, refresh = { visit = '/a', every_s = 60 } }",
        without(LOGIN) + SSE,
        1,
        "login",
        "refresh cannot stand beside none = true",
    ),
    ("login.expires_by = []", REST + SSE, 1, "login.expires_by", "at least 1 item; expected: the names of the cookies"),
    ("login.expires_by = 'session'", REST + SSE, 1, "login.expires_by", "should be a list"),
    ("login.expires_by = ['a', 'a']", REST + SSE, 1, "login.expires_by", "each name may stand there once"),
    ("login.lost = [{ url = '*', status = [] }]", REST + SSE, 1, "login.lost[0].status", "at least 1 item"),
    (
        "login.lost = [{ url = '*', status = [4010] }]",
        REST + SSE,
        1,
        "login.lost[0].status[0]",
        "less than or equal to 599; expected: the statuses, 200 to 599, that mean: logged out; found 4010",
    ),
    ("send.request = { url = '*', method = 'post' }", REST + SSE, 1, "send.request.method", "should be 'GET', 'POST'"),
    ("method = 'patch'\nkind = 'sse'\nurl = '*'\ntext = 'data.t'", "", 11, "capture.network.method", "'PATCH'"),
    (
        "fresh_chat.answers = 1",
        REST + SSE,
        1,
        "fresh_chat.answers",
        "needs capture.dom, whose answer says what to count",
    ),
    (
        "readiness.timeout_s = 90000",
        REST + SSE,
        1,
        "readiness.timeout_s",
        "less than or equal to 86400; expected: how long the page may take to load, in seconds; found 90000",
    ),
    ("readiness.timeout_s = nan", REST + SSE, 1, "readiness.timeout_s", "should be"),
    ("readiness.timeout_s = inf", REST + SSE, 1, "readiness.timeout_s", "should be"),
    (
        "readiness.timeout_s = 2026-01-01",
        REST + SSE,
        1,
        "readiness.timeout_s",
        "is a date or time: put text into quotes",
    ),
    (
        "upload = { selector = 'i', done = 'd', max_images = 0 }",
        REST + SSE,
        1,
        "upload.max_images",
        "greater than or equal to 1",
    ),
    (
        "upload = { selector = 'i', done = 'd', max_images = 1.5 }",
        REST + SSE,
        1,
        "upload.max_images",
        "a whole number; expected: how many images a prompt may have; found 1.5",
    ),
    (
        "upload = { selector = 'i', done = 'd', max_image_bytes = '5 MB' }",
        REST + SSE,
        1,
        "upload.max_image_bytes",
        "found '5 MB'",
    ),
    ("local_network = 'yes'", REST + SSE, 1, "local_network", "boolean"),
    # markers that contradict each other, or tell nothing
    ("login.logged_in = [{ url = '*' }]", without(LOGIN) + SSE, 1, "login.logged_in[0].url", "matches every address"),
    ("login.logged_out = [{ url = '*' }]", REST + SSE, 1, "login.logged_out[0].url", "matches every address"),
    (
        "login.logged_out = [{ selector = '#me' }]",
        REST + SSE,
        1,
        "login.logged_out[0]",
        "holds whenever logged_in[0] does",
    ),
    (
        "login.logged_out = [{ url = '*/login' }, { url = '*/login' }]",
        REST + SSE,
        1,
        "login.logged_out[1]",
        "stands there twice; the first is logged_out[0]",
    ),
    # steps
    (
        "send.actions = [{ press = 'Return' }]",
        without(SEND) + SSE,
        1,
        "send.actions[0].press",
        "there is no key 'Return'",
    ),
    (
        "send.actions = [{ press = 'Ctrl+Enter' }]",
        without(SEND) + SSE,
        1,
        "send.actions[0].press",
        "there is no key 'Ctrl'",
    ),
    ("send.actions = [{ press = 'Control+' }]", without(SEND) + SSE, 1, "send.actions[0].press", "must end with a key"),
    (
        "send.actions = []",
        without(SEND) + SSE,
        1,
        "send.actions",
        "at least 1 item; expected: the steps that send the prompt; found an empty list",
    ),
    ("send.actions = [{ wait_for = '#sent' }]", without(SEND) + SSE, 1, "send.actions", "only waits"),
    (
        "send.actions = [{ goto = '/send' }, { click = '#s' }]",
        without(SEND) + SSE,
        1,
        "send.actions[0].goto",
        "what was entered is lost",
    ),
    (
        "send.actions = [{ fill = '#t', value = '{prompt}' }]",
        without(SEND) + SSE,
        1,
        "send.actions[0].value",
        "there is no placeholder {prompt} here",
    ),
    (
        "send.actions = [{ select = '#m', value = '{model}' }]",
        without(SEND) + SSE,
        1,
        "send.actions[0].value",
        "{model} is known in models.choose",
    ),
    (
        "send.actions = [{ click = 'text={model}' }]",
        without(SEND) + SSE,
        1,
        "send.actions[0].click",
        "{model} is known in models.choose",
    ),
    ("fresh_chat.actions = [{ wait_gone = '.old' }]", without(FRESH) + SSE, 1, "fresh_chat.actions", "only waits"),
    ("stop.actions = [{ click = '#stop' }]", REST + SSE, 1, "stop", "actions needs answering"),
    ("stop = { answering = '#s', actions = [{ wait_gone = '#s' }] }", REST + SSE, 1, "stop.actions", "only waits"),
    (
        "upload = { selector = 'i', done = 'd', actions = [{ goto = '/up' }] }",
        REST + SSE,
        1,
        "upload.actions[0].goto",
        "what was entered is lost",
    ),
    (
        "models = [{ name = 'a', choose = [{ select = '#m', value = '{name}' }] }]",
        without(MODELS) + SSE,
        1,
        "models[0].choose[0].value",
        "{model} alone is known here",
    ),
    (
        "models = []",
        without(MODELS) + SSE,
        1,
        "models",
        "at least 1 item; expected: a list of tables, each with the name of a model",
    ),
    (
        "models = [{ name = 'a ' }]",
        without(MODELS) + SSE,
        1,
        "models[0].name",
        "must be one line, without white space around it",
    ),
    (
        "models = ['a']",
        without(MODELS) + SSE,
        1,
        "models[0]",
        "should be a table; expected: a list of tables, each with the name of a model; found 'a'",
    ),
    (
        "input = { selector = 'i', methods = ['fill', 'fill'] }",
        without(INPUT) + SSE,
        1,
        "input.methods",
        "each method may stand there once",
    ),
    # expressions
    *(
        (f"text = {text!r}\nkind = 'sse'\nurl = '*'", "", 11, "capture.network.text", says)
        for text, says in (
            ("text", "looks at text, which an event does not have: begin with data or event"),
            ('data.type == "token" && data.t', "looks at token, which an event does not have"),
            ("data.ok == true && data.t", "the value is written in backticks: `true`"),
            ("data.type == 'token'", "finds only true or false, and text is for text"),
            ("contains(data.types, 'token')", "finds only true or false"),
            ("'hello'", "looks at nothing of what comes"),
            ("[0].t", "looks at [], which an event does not have"),
            ("contians(data.t, 'x') && data.t", "there is no function contians"),
            ("join(data.parts)", "the function join takes 2 arguments, not 1"),
            ("!data.done && data.t", "put what ! stands before into parentheses"),
            ("$.data.t", "must be a JMESPath expression"),
            ("document.t", "looks at document, which an event does not have"),
            ("data.items[?type = 'text']", "must be a JMESPath expression"),
        )
    ),
    (
        "kind = 'jsonl'\nurl = '*'\ntext = \"event == 'delta' && data.t\"",
        "",
        13,
        "capture.network.text",
        "needs event, the name of an event: only those of kind = 'sse'",
    ),
    ("end = 'done'\nkind = 'sse'\nurl = '*'\ntext = 'data.t'", "", 11, "capture.network.end", "looks at done"),
    (
        "end = '`true`'\nkind = 'sse'\nurl = '*'\ntext = 'data.t'",
        "",
        11,
        "capture.network.end",
        "finds the same each time",
    ),
    (
        "document = \"data.k == 'doc'\"\nchanges = 'data.c'\nkind = 'sse'\nurl = '*'\nwhole = 'document.t'",
        "",
        11,
        "capture.network.document",
        "finds only true or false, and document is for a value",
    ),
    (
        "document = 'data.d'\nchanges = 'document.c'\nkind = 'sse'\nurl = '*'\nwhole = 'document.t'",
        "",
        12,
        "capture.network.changes",
        "looks at document",
    ),
    # the prompt as it was sent
    *(
        (f"send.prompt = {{ {text} }}", REST + SSE, 1, f"send.prompt{key}", says)
        for text, key, says in (
            ("verify = true", "", "needs url or selector, and not both"),
            ("url = '*/api/chat', selector = '.bubble'", "", "needs url or selector, and not both"),
            ("selector = '.bubble', json = 'text'", "", "json, form and method go with url"),
            ("url = '*/api/chat', json = 'text', form = 'text'", "", "needs json or form, and not both"),
            ("url = '*/api/chat', json = \"messages[-1].role == 'user'\"", ".json", "finds only true or false"),
            ("url = '*/api/chat', json = \"'text'\"", ".json", "looks at nothing of what comes"),
            ("url = '/api/chat'", ".url", "begin the pattern with *"),
            ("url = '*/api/chat', json = 'messages[last]'", ".json", "must be a JMESPath expression"),
        )
    ),
    # the traffic
    (
        "kind = 'websocket'\nmethod = 'POST'\nurl = '*'\ntext = 'data.t'\nend = 'data.e'",
        "",
        12,
        "capture.network.method",
        "a websocket has no method",
    ),
    (
        "kind = 'jsonl'\nevent_names = ['delta']\nurl = '*'\ntext = 'data.t'",
        "",
        12,
        "capture.network.event_names",
        "goes with kind = 'sse' only",
    ),
    (
        "event_names = []\nkind = 'sse'\nurl = '*'\ntext = 'data.t'",
        "",
        11,
        "capture.network.event_names",
        "at least 1 item",
    ),
    (
        "event_names = ['a', 'a']\nkind = 'sse'\nurl = '*'\ntext = 'data.t'",
        "",
        11,
        "capture.network.event_names",
        "each name may stand there once",
    ),
    (
        "kind = 'sse'\nurl = ['*/api/a', '*/api/b']\ntext = 'data.t'",
        "",
        12,
        "capture.network.url",
        "should be text; expected: a pattern of the request's full address, * for any characters; found a list of 2",
    ),
    ("kind = 'sse'\nurl = '*'\ntexts = 'data.t'", "", 13, "capture.network.texts", "unknown key; did you mean text?"),
    # what is held back
    *(
        (f"capture.dom = {{ answer = '.a', done = '.d', {given} }}", REST, 1, f"capture.dom{key}", says)
        for given, key, says in (
            ("hold_from = '['", ".hold_from", "must be a regular expression of Python's: unterminated character set"),
            ("hold_from = 'x*'", ".hold_from", "this one matches the empty text"),
            ("hold_from = 'x', stream = false", "", "hold_from needs stream = true"),
            ("loading = 'text=Loading'", ".loading", "CSS"),
        )
    ),
    # refusals
    *(
        (f"refusals = [{rules}]", REST + capture, 1, f"refusals{key}", says)
        for rules, capture, key, says in (
            ("{ text = ' ', means = 'quota' }", SSE, "[0].text", "must hold more than white space"),
            ("{ text = 'limit', means = 'quota' }", SOCKET, "[0].text", "is never seen: needs capture.network.error"),
            (
                "{ text = 'limit', means = 'quota' }",
                DOM,
                "[0].text",
                "is never seen: needs capture.network.error, capture.dom.error",
            ),
            (
                "{ status = 429, means = 'quota' }, { status = 429, means = 'refused' }",
                SSE,
                "[1]",
                "never applies: refusals[0]",
            ),
            (
                "{ text = 'limit', means = 'quota' }, { text = 'Limit reached', means = 'refused' }",
                SSE,
                "[1]",
                "never applies: refusals[0]",
            ),
            (
                "{ status = 429, means = 'quota' }, { status = 429, text = 'x', means = 'refused' }",
                SSE,
                "[1]",
                "never applies: refusals[0]",
            ),
            ("{ text = 'x', means = 'quota', rest = 9 }", SSE, "[0].rest", "unknown key; did you mean rest_s?"),
            ("{ text = 'x', means = 'quota', rest_s = 100000 }", SSE, "[0].rest_s", "less than or equal to 86400"),
            ("{ text = 'x', means = 'Quota' }", SSE, "[0].means", "found 'Quota'"),
        )
    ),
    # words of a prompt
    ("prompt.json_schema = 'Fit {Schema}.'", REST + SSE, 1, "prompt.json_schema", "needs the placeholder {schema}"),
    ("prompt.call_end = '}'", REST + SSE, 1, "prompt", "call_end may be a line of a call's own JSON"),
    # keys in the wrong place, or misspelt
    ("timeout_s = 5", REST + SSE, 1, "timeout_s", "timeout_s goes to [login.refresh] or [readiness] or [upload]"),
    ("redis = 5", REST + SSE, 1, "redis", "unknown key; did you mean readiness?"),
    ("mdoels = []", REST + SSE, 1, "mdoels", "unknown key; did you mean models?"),
    ('"a\\nb" = 5', REST + SSE, 1, '"a\\nb"', "unknown key"),
    (
        "local_network = true\nkind = 'sse'\nurl = '*'\ntext = 'data.t'",
        "",
        11,
        "capture.network.local_network",
        "local_network goes to the top of the file, before its first table",
    ),
]


def text_of(first: str, rest: str) -> str:
    """A row's file: its own lines come first, or where nothing follows them, in [capture.network] at the end."""
    return f"{first}\n{rest}" if rest else f"{REST}\n\n[capture.network]\n{first}\n"


@pytest.mark.parametrize(
    ("first", "rest", "line", "key", "says"), WRONG, ids=[f"{at}-{row[3]}" for at, row in enumerate(WRONG)]
)
def test_what_can_never_work_is_refused(first: str, rest: str, line: int, key: str, says: str) -> None:
    text = text_of(first, rest)
    tomllib.loads(text)
    with pytest.raises(SiteError) as caught:
        parse_site(text, "mine.toml")
    message = str(caught.value)
    assert message.startswith(f"site file mine.toml, line {line}: {key}: "), message
    assert says in message
    assert "\n" not in message
    assert "lovelace" not in message
    assert "unknown key" in message or "is missing" in message or "; found " in message


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("jsonl", "event == 'delta' && data.t || data.text"),
        ("jsonl", "data.items[?kind == 'text'].t | [0]"),
        ("jsonl", "@.data.t"),
        ("jsonl", "data.t || (data.u && !(data.v))"),
        ("sse", "not_null(data.t, event)"),
        ("sse", "sort_by(data.parts, &at)[-1].t"),
        ("sse", "*.t | [0]"),
        ("sse", "(data.n > `1`) | to_string(@)"),
    ],
)
def test_an_expression_that_may_find_text_is_taken(kind: str, text: str) -> None:
    parse_site(text_of(f'kind = "{kind}"\nurl = "*"\ntext = """{text}"""', ""), "mine.toml")


# Every key, each on a line of its own.
FULL = """\
name = "full"
url = "https://chat.example.com/app"
local_network = true
[login]
max_per_hour = 5
expires_by = ["session"]
logged_in = [
  { selector = "#me" },
]
logged_out = [
  { url = "*/login*" },
]
[login.check]
url = "/api/me"
expired_status = [401]
[[login.lost]]
url = "*/api/*"
status = [401]
[login.refresh]
fetch = "/api/refresh"
method = "POST"
every_s = 3600.0
before_expiry_s = 600.0
done_status = [204]
timeout_s = 20.0
[fresh_chat]
answers = 0
[[fresh_chat.actions]]
click = "#new"
dialog = "accept"
timeout_s = 5.0
[input]
selector = "textarea"
methods = ["lines"]
line_break = "Shift+Enter"
[upload]
selector = "input[type=file]"
method = "file_input"
done = ".attached"
max_images = 3
max_image_bytes = 100000
timeout_s = 5.0
[[upload.actions]]
click = "#attach"
[[send.actions]]
press = "Enter"
on = "textarea"
[send.request]
url = "*/api/send"
method = "POST"
[send.prompt]
url = "*/api/send"
method = "POST"
json = "text"
verify = true
[stop]
answering = ".stop"
[[stop.actions]]
click = ".stop"
[check]
prompt = "How do you do?"
[capture]
verify = true
[capture.network]
kind = "sse"
url = "*/api/chat"
method = "POST"
prefix = ""
event_names = ["message"]
start = "data.begin"
text = "data.t"
whole = "data.w"
reasoning = "data.r"
reasoning_whole = "data.rw"
message = "data.id"
begins = "data.b"
document = "data.doc"
changes = "data.c"
same = "data.s"
end = "data.e"
end_data = "[DONE]"
end_after = "data.a"
error = "data.error"
[capture.dom]
answer = ".answer"
done = ".done"
busy = ".busy"
error = ".error"
reasoning = ".thoughts"
ignore = ".code-header"
read = "markdown"
loading = ".skeleton"
stream = true
hold_from = "[*]"
settle_s = 0.5
[[models]]
name = "large"
[[models.choose]]
select = "#model"
value = "{model}"
[prompt]
call_begin = "<call>"
call_end = "</call>"
tools = "{call} {tools}"
json_object = "JSON."
json_schema = "JSON for {schema}."
repair_call = "{problem} {call}"
repair_json = "{problem}"
[[refusals]]
text = "limit"
status = 429
means = "quota"
rest_s = 60.0
[readiness]
selector = "textarea:enabled"
timeout_s = 5.0
"""
_VALUES = ("-7", "nan", "true", "' '", "['x', 'x']", "{}", "2026-01-01")


def swept() -> Iterator[tuple[int, str, str]]:
    """The lines of FULL that hold a value, each with its key."""
    for path, line in key_lines(FULL).items():
        key = path[-1]
        if isinstance(key, str) and re.match(rf"{key} = (?!\[$)", FULL.splitlines()[line - 1]):
            yield line, "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip("."), key


def error_of(text: str) -> str | None:
    try:
        parse_site(text, "full.toml")
    except SiteError as error:
        return str(error)
    return None


def test_a_value_of_any_kind_in_any_place_is_taken_or_named() -> None:
    """The sweep: each key gets values of all kinds. What is taken is of the kind that the key had before."""
    assert error_of(FULL) is None
    lines = FULL.splitlines()
    refused = 0
    for line, path, key in swept():
        was = tomllib.loads(lines[line - 1])[key]
        for value in _VALUES:
            changed = f"{key} = {value}"
            message = error_of("\n".join([*lines[: line - 1], changed, *lines[line:]]))
            if message is None:
                kinds = (int, float) if isinstance(was, float) else type(was)
                assert isinstance(tomllib.loads(changed)[key], kinds), changed
                continue
            refused += 1
            said = re.fullmatch(r"site file full\.toml, line (\d+): (\S+): (.*)", message)
            assert said, message
            assert any(part in said[3] for part in ("; found ", "unknown key", "is missing")), message
            # Another place is named only for two keys that are wrong together.
            here = int(said[1]) == line and said[2].startswith(path)
            assert here or re.search(r"go together|goes with|needs?|never|must differ|cannot be|looks at", said[3]), (
                message
            )
    assert refused > 300


def test_every_key_is_swept() -> None:
    """A key that the schema gains must stand in FULL too; these cannot stand beside others there."""
    here = {key for _, _, key in swept()} | {"logged_in", "logged_out", "steps"}
    assert set(_known()) - here == {
        *("none", "goto", "dismiss", "fill", "wait_for", "wait_gone", "ready_frames", "form"),
        *("visit", "own_tab"),
    }


def _known() -> Iterator[str]:
    schema = json_schema()
    for section in (schema, *schema["definitions"].values()):
        for key, value in section["properties"].items():
            if not any(word in str(value) for word in ("$ref",)):
                yield key
