"""Whose login a profile is, and when it expires: one answer for both programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import BadProfile
from contract.storage_state import document as document_module
from contract.storage_state.document import parse_document
from contract.storage_state.schema import is_web_address
from contract.storage_state.summary import NO_LOGIN, ProfileSummary
from tests.coordinator.profiles.support.states import cookie, login, origin, state

NOW = 1_800_000_000.0
HOST = "chat.example.com"
TOKEN = {"name": "token", "value": "0123456789abcdef"}
SETTING = {"name": "theme", "value": "dark"}


def summary(content: bytes) -> ProfileSummary:
    return ProfileSummary.of(parse_document(content))


def fingerprint(*cookies: Any, stored: tuple[dict[str, str], ...] = ()) -> str:
    origins = [origin(localStorage=list(stored))] if stored else []
    return summary(state(*cookies, origins=origins)).fingerprint


def test_what_a_site_stores_beside_the_login_makes_no_other_login() -> None:
    plain = fingerprint(cookie())
    assert fingerprint(cookie(), cookie(name="analytics", value="7", httpOnly=False)) == plain
    assert fingerprint(cookie(expires=-1, secure=False, sameSite="None")) == plain
    assert fingerprint(cookie(), stored=(SETTING,)) == plain
    assert fingerprint(cookie(), stored=(TOKEN,)) != plain
    assert fingerprint(cookie(), cookie(name="other")) != plain
    assert fingerprint(cookie(value="another")) != plain
    assert fingerprint(cookie(path="/chat")) != plain


def test_where_there_is_nothing_else_every_cookie_or_value_makes_the_login() -> None:
    script = cookie(httpOnly=False)
    assert fingerprint(script, cookie(name="b", httpOnly=False)) != fingerprint(script)
    assert fingerprint(stored=(SETTING,)) != fingerprint(stored=({**SETTING, "value": "light"},))
    assert fingerprint(stored=(SETTING, TOKEN)) != fingerprint(stored=(TOKEN,))


def test_a_login_in_a_database_is_told_from_another() -> None:
    stores = [[{"name": "kv", "records": [{"key": "token", "value": user}]}] for user in ("ann", "bob")]
    one, other = (
        summary(
            state(origins=[origin(localStorage=[], indexedDB=[{"name": "auth", "version": 1, "stores": content}])])
        ).fingerprint
        for content in stores
    )
    assert one != other


def test_what_a_tab_stores_makes_the_login_only_where_nothing_else_does() -> None:
    def of(*cookies: Any, value: str) -> ProfileSummary:
        tabs = [{"origin": f"https://{HOST}", "items": [TOKEN | {"value": value}]}]
        return ProfileSummary.of({"cookies": list(cookies), "sessionStorage": tabs})

    one, other = "0123456789abcdef", "fedcba9876543210"
    assert of(value=one).fingerprint not in (NO_LOGIN, of(value=other).fingerprint)
    assert of(cookie(), value=one).fingerprint == fingerprint(cookie())
    assert of(value=one).holds_stored_token
    of(cookie(expires=5), value=one).check_alive(NOW)


def with_secrets(*cookies: Any, **secrets: str) -> ProfileSummary:
    return ProfileSummary.of({"cookies": list(cookies), "origins": [], "secrets": secrets})


def test_secrets_alone_tell_whose_login_it_is_and_do_not_expire() -> None:
    ada, expired = with_secrets(user="ada", password="lovelace"), cookie(expires=5)
    assert with_secrets(expired, password="lovelace", user="ada").fingerprint == ada.fingerprint
    assert with_secrets(user="ada", password="byron").fingerprint != ada.fingerprint
    with_secrets(expired, user="ada").check_alive(NOW)
    assert with_secrets(cookie(), user="ada").expires_at(NOW) is None
    assert ProfileSummary.of({"secrets": {"user": "ada", "password": "lovelace"}}) == ada
    assert "lovelace" not in repr(ada)


@pytest.mark.parametrize("origins", [[], [{"origin": "https://chat.example.com", "localStorage": []}]], ids=len)
def test_a_profile_without_a_login_is_one_and_has_no_fingerprint(origins: list[dict[str, Any]]) -> None:
    found = summary(state(origins=origins))
    assert found.fingerprint == NO_LOGIN
    found.check_alive(NOW)


def test_a_cookie_by_url_has_its_host() -> None:
    by_url = cookie(url=f"https://{HOST}/", domain=None, path=None)
    (found,) = summary(state(by_url)).cookies
    assert (found.host, found.reaches(HOST), found.reaches(f"a.{HOST}")) == (HOST, True, False)


@pytest.mark.parametrize(
    ("cookies", "host", "expected"),
    [
        ([], HOST, None),
        ([{"expires": -1}], HOST, None),
        ([{"expires": 5}], HOST, None),
        ([{"expires": 2e9}, {"expires": 3e9}, {"expires": 5}], HOST, 2e9),
        ([{"expires": 3e9}, {"expires": 2e9, "httpOnly": False}], HOST, 3e9),
        ([{"expires": -1}, {"expires": 2e9, "httpOnly": False}], HOST, 2e9),
        ([{"expires": 5}, {"expires": 2e9, "httpOnly": False}], HOST, 2e9),
        ([{"expires": 2e9, "domain": "other.example.com"}, {"expires": 3e9, "domain": ".example.com"}], HOST, 3e9),
        ([{"expires": 2e9, "domain": "other.example.com"}, {"expires": 3e9, "domain": ".example.com"}], None, 2e9),
        ([{"expires": 2e9, "domain": "example.com"}], HOST, None),
        ([{"expires": 2e9, "domain": ".example.com"}], "badexample.com", None),
    ],
)
def test_when_a_login_expires(cookies: list[dict[str, Any]], host: str | None, expected: float | None) -> None:
    content = state(
        *(cookie(name=f"c{number}", **changes) for number, changes in enumerate(cookies)), origins=[origin()]
    )
    assert summary(content).expires_at(NOW, host) == expected


def test_a_summary_in_a_cache_is_the_same_afterwards() -> None:
    found = summary(
        state(cookie(), cookie(name="b", expires=-1, httpOnly=False), origins=[origin(localStorage=[TOKEN])])
    )
    assert ProfileSummary.from_json(json.loads(json.dumps(found.to_json()))) == found
    with pytest.raises((TypeError, LookupError)):
        ProfileSummary.from_json({"cookies": []})


def test_a_summary_shows_no_secret() -> None:
    assert "token-of-ann" not in repr(summary(login("ann")))


def test_of_many_faults_the_first_is_told_without_looking_at_the_rest() -> None:
    with pytest.raises(BadProfile, match=r"^cookies\[1\] is a number, not an object$"):
        ProfileSummary.of({"cookies": [cookie(), *[7] * 1_000_000]})


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("https://chat.example.com", True),
        ("http://127.0.0.1:8800/chat?a=b#c", True),
        ("http://[::1]:80/", True),
        ("http://[x", False),
        ("http://a:99999", False),
        ("http://a:b", False),
        ("http://", False),
        ("//chat.example.com", False),
        ("ftp://chat.example.com", False),
        ("https://chat example.com", False),
        ("", False),
    ],
)
def test_web_addresses(text: str, is_one: bool) -> None:
    assert is_web_address(text) is is_one


KEYS = st.sampled_from([r'"a"', r'"\u0061"', r'":"', r'"\u003a"', r'"\u003A"', r'"b:"'])
SCALARS = (
    *(
        "1",
        "-0",
        "1.5e3",
        "1e999",
        "-1e999",
        "9" * 400,
        "9" * 5000,
        "9" * 400 + ".0",
        "null",
        "true",
        "NaN",
        "Infinity",
    ),
    *(r'""', r'"a:b"', r'"\u003a"', '"Infinity"', r'"\ud83d\ude00"', r'"\ud800"', '"\U0001f600"', '"\t"', r'"\t"'),
)
TEXTS = st.recursive(
    st.sampled_from(SCALARS),
    lambda values: (
        st.lists(values, max_size=4).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(st.tuples(KEYS, values), max_size=4).map(
            lambda pairs: "{" + ",".join(f"{key}: {value}" for key, value in pairs) + "}"
        )
    ),
    max_leaves=12,
)


def parsed(parse: Callable[[bytes], Any], data: bytes) -> str:
    """What a text holds, or the reason against it."""
    try:
        return repr(parse(data))
    except BadProfile as error:
        return error.reason


@settings(deadline=None, max_examples=1000)
@given(TEXTS.map(str.encode))
def test_documents_are_parsed_fast_as_they_are_strictly(data: bytes) -> None:
    assert parsed(parse_document, data) == parsed(document_module._parse_strictly, data)


@pytest.mark.parametrize(
    "data",
    [rb'{"a": 1, "a": "\u003a"}', rb'{"a": 1, "\u0061": ":"}', rb'{"b": {"a": "x:", "a": 2}, "c": "\u003a\u003A"}'],
)
def test_key_that_stands_twice_is_found_however_colons_are_written(data: bytes) -> None:
    with pytest.raises(BadProfile, match="has the key 'a' twice"):
        parse_document(data)


def test_profile_as_browsers_save_it_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_data: bytes) -> None:
        raise AssertionError("parsed twice")

    monkeypatch.setattr(document_module, "_parse_strictly", fail)
    assert parse_document(login("ann"))["cookies"]
