"""What each client gets from the API, and how often it submits: once for each of its calls, whatever fails.

The demo's directive `say` makes the page answer with given text. The last one of a prompt counts, so that a tool's
result can say what the answer after it is.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.clients.catalogue import CALLS, CLIENTS, call_block
from tests.clients.process import ROW_LIMIT_S, ClientProcess
from tests.e2e.fleet import MODEL, Fleet, Site, eventually
from tests.support.metrics import Metrics
from tests.support.pictures import data_url, image
from tests.support.waiting import HANG_LIMIT_S

pytestmark = pytest.mark.clients
Measured = dict[tuple[str, str], str]


def rows(scenario: str) -> pytest.MarkDecorator:
    """Run the test for each client that has a feature for this scenario; for the others the table says `none`."""
    names = [name for name, client in CLIENTS.items() if scenario not in client.lacks]
    # Nothing but the session's fixture, so that pytest puts a client's rows together and starts its process once.
    return pytest.mark.parametrize("client", names, indirect=True)


@dataclass
class Counted:
    """What one row has cost so far: chat requests that reached the coordinator, and prompts submitted to a page."""

    fleet: Fleet
    site: Site
    last_id: int
    requests_before: float

    def entries(self) -> list[dict[str, Any]]:
        """Return the ledger's entries of the row."""
        return self.site.ledger(since=self.last_id)

    def requests(self) -> int:
        """Return how many chat requests of the row have ended."""
        return int(requests(self.fleet) - self.requests_before)


def requests(fleet: Fleet, **labels: str) -> float:
    """Return how many chat requests have ended at the coordinator, by its metrics."""
    request = urllib.request.Request(f"{fleet.url}/metrics", headers={"authorization": f"Bearer {fleet.key}"})
    with urllib.request.urlopen(request, timeout=HANG_LIMIT_S) as response:
        return Metrics.parse(response.read().decode()).sum("tabfleet_requests_total", **labels)


def count(fleet: Fleet, site: Site) -> Counted:
    """Begin a row."""
    return Counted(fleet, site, site.last_id(), requests(fleet))


def run(client: ClientProcess, fleet: Fleet, scenario: str, prompt: str, **more: Any) -> dict[str, Any]:
    """Run a scenario on the client with the fleet's address and key; the prompt is like no other."""
    row = {
        "base_url": f"{fleet.url}/v1",
        "api_key": fleet.key,
        "model": MODEL,
        "turns": [],
        "image": "",
        "headers": {},
        **more,
    }
    return client.run(scenario, prompt=f"{prompt} ({secrets.token_hex(4)})", **row)


def answer_with(text: str) -> str:
    """Return the directive that makes the page answer with this text."""
    return f"[[say={text.encode().hex()}]]"


def check_submissions(
    counted: Counted, client: ClientProcess, scenario: str, measured: Measured
) -> list[dict[str, Any]]:
    """Check that the row has submitted once for each call, note that it has, and return the ledger's entries."""
    entries = counted.entries()
    calls = client.kind.calls.get(scenario, CALLS.get(scenario, 1))
    measured[client.name, scenario] = f"{len(entries)} submissions"
    assert len(entries) == calls, [entry["prompt"][-400:] for entry in entries]
    measured[client.name, scenario] = "yes"
    return entries


@rows("models")
def test_models(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    answer = run(client, serving, "models", "")
    assert {"demo-small", "demo-large", "demo-echo"} <= set(answer.get("models", ())), answer
    check_submissions(counted, client, "models", measured)


@rows("chat")
def test_chat(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    said = client.kind.final("A quay is a wharf.")
    answer = run(client, serving, "chat", f"{answer_with(said)} What is a quay?")
    (entry,) = check_submissions(counted, client, "chat", measured)
    assert entry["outcome"] == "done"
    assert answer.get("text") == "A quay is a wharf.", answer


@rows("stream")
def test_stream(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    # A page drops a space at the end.
    text = ("one two three four five six seven eight nine ten eleven twelve. " * 5).rstrip()
    said = (client.kind.stream_form or client.kind.final_form).replace("TEXT", text)
    answer = run(client, serving, "stream", f"{answer_with(said)} Count.")
    (entry,) = check_submissions(counted, client, "stream", measured)
    pieces = [piece for piece in answer.get("pieces", ()) if piece]
    streamed = "".join(pieces)
    assert text in entry["answer"]
    assert text in streamed, answer
    assert streamed in said, answer  # smolagents sets a stop sequence that cuts the last line off
    assert len(pieces) >= client.kind.least_pieces


@rows("history")
def test_history(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    first, second = client.kind.final("The first answer."), client.kind.final("The second answer.")
    question = f"{answer_with(first)} The first question {secrets.token_hex(4)}?"
    turns = [("user", question), ("assistant", "The first answer.")]
    answer = run(client, serving, "history", f"{answer_with(second)} The second question?", turns=turns)
    *_, entry = check_submissions(counted, client, "history", measured)
    assert answer.get("text") == "The second answer.", answer
    places = [entry["prompt"].index(text) for text in (question, "The first answer.", "The second question?")]
    assert places == sorted(places)


@rows("image")
def test_image(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    picture = image(mark=secrets.token_bytes(8).hex().encode())
    said = client.kind.final("A quay.")
    answer = run(client, serving, "image", f"{answer_with(said)} What is this?", image=data_url(picture))
    (entry,) = check_submissions(counted, client, "image", measured)
    assert answer.get("text") == "A quay.", answer
    digests = [one["sha256"] for one in entry["images"]]
    assert len(digests) == 1
    if not client.kind.recodes_images:
        assert digests == [hashlib.sha256(picture.data).hexdigest()]


@rows("tools")
def test_tools(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    said = client.kind.tool_call or call_block("weather", '{"city": "Oslo"}')
    result = f"Rain. {answer_with(client.kind.final('Take an umbrella.'))}"
    prompt = f"{answer_with(said)} How is the weather in Oslo?"
    answer = run(client, serving, "tools", prompt, tool_result=result)
    *_, last = check_submissions(counted, client, "tools", measured)
    assert (answer.get("called"), answer.get("text")) == ([{"city": "Oslo"}], "Take an umbrella."), answer
    assert result in last["prompt"]


@pytest.mark.parametrize("client", ["openai-agents"], indirect=True)
def test_handoff(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    """One agent hands the conversation to another, by a call of a tool."""
    counted = count(serving, site)
    said = call_block("transfer_to_weather", "{}")
    prompt = f"{answer_with(said)} How is the weather in Oslo?"
    answer = run(client, serving, "handoff", prompt, tool_result=f"{answer_with('Take an umbrella.')} Well?")
    assert len(check_submissions(counted, client, "handoff", measured)) == 2
    assert answer == {"text": "Take an umbrella.", "by": "Weather"}


@pytest.mark.parametrize("client", ["open-webui"], indirect=True)
def test_note(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    """Open WebUI sends tools of its own with each question. The page calls one, it runs it, and the page answers."""
    counted = count(serving, site)
    title = f"Quay {secrets.token_hex(4)}"
    said = call_block("write_note", json.dumps({"title": title, "content": answer_with("It is noted.")}))
    answer = run(client, serving, "note", f"{answer_with(said)} Note what a quay is.")
    _, last = check_submissions(counted, client, "note", measured)
    assert answer.get("text") == "It is noted.", answer
    assert title in answer["notes"]
    assert "Tool (write_note):" in last["prompt"]


@pytest.mark.parametrize("client", ["open-webui"], indirect=True)
def test_tasks(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    """By default, Open WebUI asks for a chat's title, its tags and what may be asked next: three more submissions."""
    counted = count(serving, site)
    answer = run(client, serving, "tasks", f"{answer_with('A quay is a wharf.')} What is a quay?")
    assert answer.get("text") == "A quay is a wharf.", answer
    calls = client.kind.calls["tasks"]
    eventually(lambda: counted.requests() >= calls, timeout_s=ROW_LIMIT_S, what=f"the end of {calls} requests")
    entries = check_submissions(counted, client, "tasks", measured)
    assert sum(entry["prompt"].startswith("### Task:") for entry in entries) == 3


@pytest.mark.parametrize("client", ["open-webui"], indirect=True)
def test_failure_shown(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    """The conversation shows the error of a prompt that was submitted, and shows it once."""
    counted = count(serving, site)
    answer = run(client, serving, "chat", "[[error=server]] What is a quay?")
    check_submissions(counted, client, "failure_shown", measured)
    assert answer["error"]["message"] == "the site answered the prompt with an error with status 500"


@rows("structured")
def test_structured(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    place = '{"city": "Oslo", "visits": 3}'
    tool = client.kind.structured_tool
    said = call_block(tool, place) if tool else client.kind.data_form.replace("DATA", place)
    answer = run(client, serving, "structured", f"{answer_with(said)} Where have I been?")
    check_submissions(counted, client, "structured", measured)
    assert answer.get("data") == {"city": "Oslo", "visits": 3}, answer


@rows("stop")
def test_stop(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    answer = run(client, serving, "stop", f"{answer_with('one two END three')} Count.", stop="END")
    check_submissions(counted, client, "stop", measured)
    assert str(answer.get("text")).strip() == "one two", answer


@rows("wrong_key")
def test_wrong_key(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    counted = count(serving, site)
    answer = run(client, serving, "chat", "What is a quay?", api_key="sk-wrong")
    check_submissions(counted, client, "wrong_key", measured)
    assert "error" in answer, answer
    assert answer["error"]["status"] == 401 or "API key" in answer["error"]["message"], answer


@pytest.fixture
def busy(crowded: Fleet, site: Site) -> Iterator[None]:
    """Have the only child answer until faults are cleared."""
    before = site.last_id()
    with ThreadPoolExecutor(1) as pool:
        messages: Any = [{"role": "user", "content": f"[[stall=first]] {secrets.token_hex(4)}"}]
        other = pool.submit(crowded.client(max_retries=10).chat.completions.create, model=MODEL, messages=messages)
        try:
            assert site.ledger(since=before, wait_s=HANG_LIMIT_S)
            yield
        finally:
            site.clear_faults()
            other.result()


@pytest.mark.usefixtures("busy")
@rows("overload")
def test_overload(client: ClientProcess, crowded: Fleet, site: Site, measured: Measured) -> None:
    """A client that waits and tries again gets its answer, and one that does not has submitted nothing."""
    refused = requests(crowded, code="queue_full")
    counted = count(crowded, site)
    with ThreadPoolExecutor(1) as pool:
        prompt = f"{answer_with(client.kind.final('A quay is a wharf.'))} What is a quay?"
        answering = pool.submit(run, client, crowded, "chat", prompt)
        eventually(lambda: requests(crowded, code="queue_full") > refused, timeout_s=ROW_LIMIT_S, what="429")
        site.clear_faults()
        answer = answering.result()
    assert len(counted.entries()) == (0 if "error" in answer else 1)
    if "error" in answer:
        assert answer["error"]["status"] == 429 or "wait already" in answer["error"]["message"], answer
        measured[client.name, "overload"] = "error"
    else:
        assert answer.get("text") == "A quay is a wharf.", answer
        measured[client.name, "overload"] = "waits"


@rows("failure")
def test_failure(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    """The site answers with an error after it took the prompt: whatever the client does, no second one is submitted."""
    counted = count(serving, site)
    answer = run(client, serving, "chat", "[[error=server]] What is a quay?")
    check_submissions(counted, client, "failure", measured)
    assert "error" in answer, answer
    measured[client.name, "failure"] = str(counted.requests())


@rows("keyed")
def test_keyed(client: ClientProcess, serving: Fleet, site: Site, measured: Measured) -> None:
    """The same with an Idempotency-Key: every repeat gets the first one's answer, and that is an error."""
    counted = count(serving, site)
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    answer = run(client, serving, "chat", "[[error=server]] What is a quay?", headers=headers)
    check_submissions(counted, client, "keyed", measured)
    assert "error" in answer, answer
    measured[client.name, "keyed"] = str(counted.requests())
