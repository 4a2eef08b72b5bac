"""Whatever the bytes are: a verdict, never another exception; and a valid profile stays valid."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import BadProfile
from contract.storage_state.document import parse_document
from contract.storage_state.summary import ProfileSummary
from coordinator.profiles import discover
from coordinator.profiles.discover import check_name, examine, select_profiles
from coordinator.profiles.model import Examined
from tests.coordinator.profiles.support.states import cookie, login, origin, state

PATIENT = settings(deadline=None)  # the machine may be busy
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)
TOKEN = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=40)
COOKIE = st.builds(
    cookie,
    name=TOKEN,
    value=TOKEN,
    path=st.sampled_from(["/", "/chat"]),
    expires=st.sampled_from([-1, 4_000_000_000, 4_000_000_000.5]),
    httpOnly=st.booleans(),
    sameSite=st.sampled_from(["Strict", "Lax", "None"]),
)
STRANGE = st.dictionaries(
    st.sampled_from(["name", "value", "domain", "path", "url", "expires", "secure", "sameSite"]), JSON
)
ORIGIN = st.builds(
    lambda items: origin(localStorage=[{"name": name, "value": value} for name, value in items]),
    st.lists(st.tuples(TOKEN, st.text(st.characters(codec="utf-8")))),
)


def verdict(data: bytes) -> ProfileSummary | str:
    """The profile's summary, or the reason against it."""
    try:
        return ProfileSummary.of(parse_document(data))
    except BadProfile as error:
        return error.reason


@PATIENT
@given(st.binary())
def test_any_bytes_get_a_verdict(data: bytes) -> None:
    assert verdict(data)


@PATIENT
@given(JSON)
def test_any_document_gets_a_verdict(document: Any) -> None:
    assert verdict(json.dumps(document).encode())


@PATIENT
@given(st.sampled_from(sorted(cookie())), JSON | st.text().map(lambda text: f"SECRET{text}"))
def test_any_field_of_a_cookie_gets_a_verdict_that_does_not_show_it(field: str, value: Any) -> None:
    found = verdict(state(cookie(**{field: value})))
    assert not (isinstance(found, str) and "SECRET" in found)


@PATIENT
@given(st.lists(COOKIE, min_size=1), st.lists(ORIGIN))
def test_valid_state_is_accepted(cookies: list[Any], origins: list[Any]) -> None:
    found = verdict(state(*cookies, origins=origins))
    assert isinstance(found, ProfileSummary)
    assert len(found.cookies) == len(cookies)
    found.check_alive(1_800_000_000.0)


@PATIENT
@given(st.lists(COOKIE, min_size=1), st.lists(ORIGIN), st.randoms())
def test_fingerprint_knows_a_login_in_any_order_and_with_any_expiry(
    cookies: list[Any], origins: list[Any], shuffle: random.Random
) -> None:
    saved_again = [{**item, "expires": 4_100_000_000} for item in cookies]
    shuffle.shuffle(saved_again)
    once, again = verdict(state(*cookies, origins=origins)), verdict(state(*saved_again, origins=origins))
    assert isinstance(once, ProfileSummary)
    assert isinstance(again, ProfileSummary)
    assert once.fingerprint == again.fingerprint


@PATIENT
@given(st.text(min_size=1), st.text(min_size=1))
def test_fingerprints_of_different_tokens_differ(one: str, other: str) -> None:
    found = [verdict(login(user)) for user in (one, other)]
    states = [item for item in found if isinstance(item, ProfileSummary)]
    if len(states) == 2:
        assert (states[0].fingerprint == states[1].fingerprint) == (one == other)


@PATIENT
@given(st.integers(min_value=0, max_value=len(login("ann")) - 1))
def test_profile_cut_off_anywhere_is_refused(length: int) -> None:
    assert isinstance(verdict(login("ann")[:length]), str)


@PATIENT
@given(st.text())
def test_name_that_is_accepted_stays_in_its_folder(stem: str) -> None:
    name = f"{stem}.json"
    try:
        check_name(name)
    except BadProfile:
        return
    assert name.isprintable()
    assert not set(name) & set("/\\\0\n<>\"'&|;$`*?%")
    assert name[0] not in ".-~ "


@PATIENT
@given(STRANGE)
def test_a_cookie_of_any_content_is_examined_without_an_exception(strange: dict[str, Any]) -> None:
    data = json.dumps({"cookies": [cookie(name="sid", value="v") | strange]}).encode()
    item = examine("ann.json", Path("ann.json"), lambda: data)
    assert (item.state is None) == bool(item.reason)


@pytest.mark.parametrize("error", [ValueError("[secret"), RecursionError(), OverflowError(), TypeError()])
def test_what_the_checks_did_not_foresee_is_the_reason_of_one_profile(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_data: bytes) -> None:
        raise error

    monkeypatch.setattr(discover, "parse_document", fail)
    reason = examine("ann.json", Path("ann.json"), lambda: b"{}").reason
    assert reason == f"cannot be checked ({type(error).__name__}); log in again and save it"


@PATIENT
@given(STRANGE, st.floats(allow_nan=False, allow_infinity=False))
def test_a_cookie_of_any_content_is_selected_or_rejected_at_any_time(strange: dict[str, Any], now: float) -> None:
    data = json.dumps({"cookies": [cookie(name="sid", value="v") | strange]}).encode()
    found = select_profiles([examine("ann.json", Path("ann.json"), lambda: data)], now)
    assert len(found.accepted) + len(found.rejected) == 1
    assert all(item.reason for item in found.rejected)


@PATIENT
@given(st.lists(st.tuples(JSON, JSON, JSON), max_size=3), JSON)
def test_a_summary_of_any_content_that_a_cache_has_kept_concerns_one_profile(
    cookies: list[tuple[Any, Any, Any]], fingerprint: Any
) -> None:
    kept = ProfileSummary.from_json({"cookies": cookies, "holds_stored_token": False, "fingerprint": fingerprint})
    sound = examine("bob.json", Path("bob.json"), lambda: login("bob"))
    found = select_profiles([Examined("ann.json", Path("ann.json"), "", kept), sound], 1_800_000_000.0)
    assert "bob" in {profile.name for profile in found.accepted}
    assert len(found.accepted) + len(found.rejected) == 2


@pytest.mark.parametrize("error", [ValueError("[secret"), OverflowError("secret"), OSError(22, "secret")])
@pytest.mark.parametrize("method", ["check_alive", "expires_at"])
def test_what_a_look_at_the_time_did_not_foresee_is_the_reason_of_one_profile(
    monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    examined = [examine(f"{name}.json", Path(f"{name}.json"), partial(login, name)) for name in ("ann", "bob")]

    def fail(summary: ProfileSummary, _now: float) -> None:
        if summary is examined[0].state:
            raise error

    monkeypatch.setattr(ProfileSummary, method, fail)
    found = select_profiles(examined, 0.0)
    assert [profile.name for profile in found.accepted] == ["bob"]
    reason = f"cannot be checked ({type(error).__name__}); log in again and save it"
    assert [(item.name, item.reason) for item in found.rejected] == [("ann.json", reason)]
