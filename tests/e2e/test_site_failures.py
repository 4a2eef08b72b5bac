"""Failures of the site in a real browser: the error of each at the API, and how the child reacts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.e2e.fleet import MODEL, Fleet, Site, demo_site, eventually, fetch, fleet, log_in_by_request

pytestmark = pytest.mark.slow

HANG_LIMIT_S = 60.0


@pytest.fixture(scope="module")
def one_of_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Site]]:
    """Run two profiles with MAX_CHILDREN=1 on a site of their own, because their sessions end here."""
    folder = tmp_path_factory.mktemp("failures")
    with demo_site() as site:
        profiles = log_in_by_request(site, folder / "active")
        with fleet(site, profiles, folder / "fleet", MAX_CHILDREN="1", BACKOFF_MAX_S="0.5") as running:
            running.wait_for(ada="READY", grace="STANDBY")
            yield running, site


def _ask(running: Fleet, prompt: str) -> str:
    answer = running.client(max_retries=0).chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": prompt}]
    )
    return answer.choices[0].message.content or ""


def _fails(running: Fleet, prompt: str) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as failed:
        _ask(running, prompt)
    assert failed.value.response.headers["x-should-retry"] == "false"
    return failed.value


def test_each_failure_of_the_site_has_its_error_and_reaction(one_of_two: tuple[Fleet, Site]) -> None:
    running, site = one_of_two
    first = running.child_pid("ada")

    refused = _fails(running, "[[error=refused]] something bad")
    assert (refused.status_code, refused.code) == (400, "refused")
    assert running.children()["ada"]["state"] == "READY"

    crashed = _fails(running, "[[crash]] the page crashes")
    assert (crashed.status_code, crashed.code) == (502, "page_broken")
    # The page is reloaded; the child is not restarted.
    eventually(lambda: _answers(running, "after the crash"), timeout_s=HANG_LIMIT_S, what="an answer")
    assert running.child_pid("ada") == first

    limited = _is_not_taken(running, "[[error=quota]] one too many")
    assert (limited.status_code, limited.code) == (429, "quota")
    running.wait_for(ada="RESTING", grace="READY")
    assert running.children()["ada"]["reason"] == "quota"
    assert _ask(running, "from the standby")
    assert site.ledger(account="grace")
    key = {"authorization": f"Bearer {running.key}"}
    assert fetch(f"{running.url}/admin/children/ada/reset", headers=key, method="POST")[0] == 202
    running.wait_for(ada="STANDBY")

    expired = _is_not_taken(running, "[[error=expired]] logged out")
    assert (expired.status_code, expired.code) == (503, "login_expired")
    running.wait_for(ada="READY", grace="FAILED")
    assert running.children()["grace"]["reason"] == "login_expired"
    assert _ask(running, "from the first one again")
    prompts = [entry["prompt"] for entry in site.ledger()]
    assert len(prompts) == len(set(prompts)), "something was submitted twice"


@pytest.mark.parametrize(
    ("fault", "stream"),
    [
        ("quota", True),
        ("expire_session", False),
        pytest.param("quota", False, marks=pytest.mark.long),
        pytest.param("expire_session", True, marks=pytest.mark.long),
    ],
)
def test_what_one_login_does_not_take_the_other_answers(tmp_path: Path, fault: str, *, stream: bool) -> None:
    """The caller sees an ordinary answer: the site itself said that the first login got none."""
    with demo_site() as site:
        profiles = log_in_by_request(site, tmp_path / "active")
        with fleet(site, profiles, tmp_path / "fleet", LOGIN_CHECK_S="600") as running:
            running.wait_for(ada="READY", grace="READY")
            if fault == "quota":
                site.fault("quota", account="ada")
            else:
                site.fault("expire_session", account="ada")
            for number in range(2):  # one of them meets ada first
                prompt = f"prompt {number}"
                chat = running.client(max_retries=0).chat.completions
                messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": prompt}]
                if stream:
                    chunks = chat.create(model=MODEL, messages=messages, stream=True)
                    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
                else:
                    text = chat.create(model=MODEL, messages=messages).choices[0].message.content or ""
                entries = [entry for entry in site.ledger() if entry["prompt"] == prompt]
                answered = [entry for entry in entries if entry["outcome"] == "done"]
                assert [entry["answer"] for entry in answered] == [text]
                assert answered[0]["account"] == "grace"
            reason = "quota" if fault == "quota" else "login_expired"
            eventually(lambda: running.children()["ada"]["reason"] == reason, timeout_s=HANG_LIMIT_S, what=reason)


def _is_not_taken(running: Fleet, prompt: str) -> openai.APIStatusError:
    """The site says that it takes no prompt of this login now, and there is no other."""
    with pytest.raises(openai.APIStatusError) as failed:
        _ask(running, prompt)
    assert "x-should-retry" not in failed.value.response.headers
    assert int(failed.value.response.headers["retry-after"]) > 0
    return failed.value


def _answers(running: Fleet, prompt: str) -> bool:
    """Return whether there is an answer. Raise an error that forbids a retry."""
    try:
        return bool(_ask(running, prompt))
    except openai.APIStatusError as error:
        if error.response.headers.get("x-should-retry") == "false":
            raise
        return False
