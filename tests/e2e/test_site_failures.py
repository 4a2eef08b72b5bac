"""Failures of the site in a real browser: the error of each at the API, and how the child reacts."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.fleet import MODEL, Fleet, Site, demo_site, eventually, fetch, fleet, log_in_by_request

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

    limited = _fails(running, "[[error=quota]] one too many")
    assert (limited.status_code, limited.code) == (502, "quota")
    running.wait_for(ada="RESTING", grace="READY")
    assert running.children()["ada"]["reason"] == "quota"
    assert _ask(running, "from the standby")
    assert site.ledger(account="grace")
    key = {"authorization": f"Bearer {running.key}"}
    assert fetch(f"{running.url}/admin/children/ada/reset", headers=key, method="POST")[0] == 202
    running.wait_for(ada="STANDBY")

    expired = _fails(running, "[[error=expired]] logged out")
    assert (expired.status_code, expired.code) == (502, "login_expired")
    running.wait_for(ada="READY", grace="FAILED")
    assert running.children()["grace"]["reason"] == "login_expired"
    assert _ask(running, "from the first one again")
    prompts = [entry["prompt"] for entry in site.ledger()]
    assert len(prompts) == len(set(prompts)), "something was submitted twice"


def _answers(running: Fleet, prompt: str) -> bool:
    """Return whether there is an answer. Raise an error that forbids a retry."""
    try:
        return bool(_ask(running, prompt))
    except openai.APIStatusError as error:
        if error.response.headers.get("x-should-retry") == "false":
            raise
        return False
