"""The API as the real Anthropic client sees it, with its default retries unless a test says otherwise."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.fleet import MODEL, Fleet, Site, demo_site, fleet, log_in_by_request
from tests.support.lazy import LazyModule
from tests.support.pictures import image

if TYPE_CHECKING:
    import anthropic
else:
    anthropic = LazyModule("anthropic")

WEATHER: anthropic.types.ToolParam = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def client(running: Fleet, **more: Any) -> anthropic.Anthropic:
    plain = anthropic.DefaultHttpxClient(verify=False)  # see tests/support/api_clients.py
    return anthropic.Anthropic(base_url=running.url, http_client=plain, **{"api_key": running.key, **more})


def user(content: Any) -> list[anthropic.types.MessageParam]:
    return [{"role": "user", "content": content}]


def say(text: str) -> str:
    """The directive that makes the demo site answer with this text."""
    return f"[[say={text.encode().hex()}]]"


def answer_to(running: Fleet, *, stream: bool, **asked: Any) -> anthropic.types.Message:
    """Return the answer; of a stream what the client puts together of its events."""
    asked = {"model": MODEL, "max_tokens": 1000, **asked}
    if not stream:
        message: anthropic.types.Message = client(running).messages.create(**asked)
        return message
    with client(running).messages.stream(**asked) as events:
        return events.get_final_message()


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_comes_from_the_page(two: Fleet, site: Site, *, stream: bool) -> None:
    before = site.last_id()
    answer = answer_to(
        two,
        stream=stream,
        system=[{"type": "text", "text": "Be brief."}],
        messages=[*user("What is a quay?"), {"role": "assistant", "content": "A wharf."}, *user("And a pier?")],
    )
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == (
        "System:\nBe brief.\n\nUser:\nWhat is a quay?\n\nAssistant:\nA wharf.\n\nUser:\nAnd a pier?"
    )
    (block,) = answer.content
    assert block.type == "text"
    assert block.text == entry["answer"]
    assert (answer.role, answer.model, answer.stop_reason, answer.stop_sequence) == (
        "assistant",
        MODEL,
        "end_turn",
        None,
    )
    assert answer.usage.input_tokens == -(-len(entry["prompt"].encode()) // 4)
    assert answer.usage.output_tokens == -(-len(entry["answer"].encode()) // 4)


def test_a_streamed_answer_arrives_token_by_token(two: Fleet, site: Site) -> None:
    before = site.last_id()
    asked = client(two).messages.stream(
        model="demo-large", max_tokens=1000, messages=user("[[tokens=40 delay_ms=5]] Count.")
    )
    with asked as stream:
        pieces = list(stream.text_stream)
    (entry,) = site.ledger(since=before)
    assert "".join(pieces) == entry["answer"]
    assert entry["model"] == "demo-large"
    assert len([piece for piece in pieces if piece]) > 10


@pytest.mark.parametrize("stream", [True, False])
def test_a_turn_with_tools(two: Fleet, site: Site, *, stream: bool) -> None:
    before = site.last_id()
    calls = "\n".join(
        f'```tool_call\n{{"name": "weather", "arguments": {{"city": "{city}"}}}}\n```' for city in ("Oslo", "Bergen")
    )
    question = say(f"I look it up.\n\n{calls}") + " How is the weather?"
    asked = answer_to(two, stream=stream, messages=user(question), tools=[WEATHER])
    assert asked.stop_reason == "tool_use"
    text, first, second = asked.content
    assert text.type == "text"
    assert text.text == "I look it up."
    assert first.type == second.type == "tool_use"
    assert [(call.name, call.input) for call in (first, second)] == [
        ("weather", {"city": "Oslo"}),
        ("weather", {"city": "Bergen"}),
    ]

    answer = answer_to(
        two,
        stream=stream,
        messages=[
            *user("How is the weather?"),
            {"role": "assistant", "content": asked.content},
            *user(
                [
                    {"type": "tool_result", "tool_use_id": first.id, "content": "Rain."},
                    {"type": "tool_result", "tool_use_id": second.id, "content": "No such city.", "is_error": True},
                ]
            ),
        ],
        tools=[WEATHER],
    )
    told = [entry["prompt"] for entry in site.ledger(since=before)]
    assert told[0].startswith("Tools:\n")
    assert told[1].endswith(
        f"User:\nHow is the weather?\n\nAssistant:\nI look it up.\n{calls}\n\n"
        "Tool (weather):\nRain.\n\nTool (weather):\nError:\nNo such city."
    )
    assert answer.stop_reason == "end_turn"


@pytest.mark.parametrize("stream", [True, False])
def test_what_a_page_shows_of_its_reasoning_is_thinking(two: Fleet, site: Site, *, stream: bool) -> None:
    before = site.last_id()
    thought = b"A wharf is one, and a pier is none.".hex()
    answer = answer_to(two, stream=stream, messages=user(f"[[think={thought}]] What is a quay?"))
    (entry,) = site.ledger(since=before)
    thinking, text = answer.content
    assert thinking.type == "thinking"
    assert bytes.fromhex(thought).decode() == thinking.thinking
    assert text.type == "text"
    assert text.text == entry["answer"]


def test_an_image_arrives_byte_for_byte(two: Fleet, site: Site) -> None:
    picture = image(mark=b"of a test")
    before = site.last_id()
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(picture.data).decode()}
    content = [{"type": "text", "text": "What is this?"}, {"type": "image", "source": source}]
    answer_to(two, stream=False, messages=user(content))
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == "What is this?"
    assert [one["sha256"] for one in entry["images"]] == [hashlib.sha256(picture.data).hexdigest()]


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_ends_where_the_request_says(two: Fleet, site: Site, *, stream: bool) -> None:
    before = site.last_id()
    answer = answer_to(
        two, stream=stream, messages=user(f"{say('one two STOP three')} Say."), stop_sequences=["HALT", "STOP"]
    )
    (block,) = answer.content
    assert block.type == "text"
    assert block.text == "one two "
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "STOP")

    answer = answer_to(two, stream=stream, messages=user("[[tokens=20000]]"), max_tokens=100)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 100)
    assert len(site.ledger(since=before)) == 2
    assert site.ledger(since=before, outcome="stopped", wait_s=30)


def test_models(two: Fleet) -> None:
    """They are in OpenAI's form, of which Anthropic's client reads the ids."""
    assert MODEL in [model.id for model in client(two).models.list()]


def test_refusals_map_to_the_clients_classes(two: Fleet, site: Site) -> None:
    before = site.last_id()
    hello: dict[str, Any] = {"model": MODEL, "max_tokens": 10, "messages": user("hi")}
    with pytest.raises(anthropic.AuthenticationError) as refused:
        client(two, api_key="wrong").messages.create(**hello)
    assert _error(refused.value)["type"] == "authentication_error"
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client(two).messages.create(**{**hello, "model": "claude-unknown"})
    assert _error(unknown.value)["type"] == "not_found_error"
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
    ]
    with pytest.raises(anthropic.BadRequestError) as bad:
        client(two).messages.create(**{**hello, "messages": user(content)})
    assert _error(bad.value)["type"] == "invalid_request_error"
    assert _error(bad.value)["param"] == "messages[0].content[1].source"
    assert site.ledger(since=before) == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("error", ["server", "middle"])
def test_a_failure_after_the_submission_is_not_submitted_again(
    two: Fleet, site: Site, error: str, *, stream: bool
) -> None:
    """Without `x-should-retry: false` the client sends what failed with 502 twice more."""
    before = site.last_id()
    prompt = f"[[error={error} tokens=60 delay_ms=20]] Fail."
    with pytest.raises(anthropic.APIStatusError) as failed:
        answer_to(two, stream=stream, messages=user(prompt))
    assert (_error(failed.value)["type"], _error(failed.value)["code"]) == ("api_error", "site_error")
    assert failed.value.status_code == (200 if stream and error == "middle" else 502)
    with pytest.raises(anthropic.BadRequestError) as repeated:
        answer_to(two, stream=stream, messages=user(prompt))
    assert _error(repeated.value)["code"] == "repeated_after_submission"
    assert len(site.ledger(since=before)) == 1


def test_a_request_with_an_idempotency_key_is_submitted_once(two: Fleet, site: Site) -> None:
    before = site.last_id()
    key = {"idempotency-key": "of-messages"}
    answers = [answer_to(two, stream=False, messages=user("Once."), extra_headers=key) for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(site.ledger(since=before)) == 1


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Site]]:
    """Run one login on a site of its own, because its quota ends here."""
    folder: Path = tmp_path_factory.mktemp("alone")
    with demo_site() as site:
        profiles = log_in_by_request(site, folder / "active", ("ada",))
        with fleet(site, profiles, folder / "fleet") as running:
            running.wait_for(ada="READY")
            yield running, site


@pytest.mark.long  # tests/contract/test_dialects.py shows it without a browser
def test_a_quota_is_a_rate_limit(alone: tuple[Fleet, Site]) -> None:
    running, _ = alone
    with pytest.raises(anthropic.RateLimitError) as limited:
        client(running, max_retries=0).messages.create(
            model=MODEL, max_tokens=10, messages=user("[[error=quota]] One too many.")
        )
    assert (_error(limited.value)["type"], _error(limited.value)["code"]) == ("rate_limit_error", "quota")
    assert int(limited.value.response.headers["retry-after"]) > 0


def test_tokens_are_counted_while_all_pages_are_busy(two: Fleet, site: Site) -> None:
    asking = client(two, max_retries=0)
    with ExitStack() as stack:
        for number in range(2):
            held = asking.messages.stream(
                model=MODEL, max_tokens=1000, messages=user(f"[[stall=middle tokens=60]] Hold {number}.")
            )
            next(iter(stack.enter_context(held)))
        before = site.last_id()
        counted = asking.messages.count_tokens(
            model=MODEL, system="Be brief.", messages=user("Zwölf Boxkämpfer"), tools=[WEATHER]
        )
        plain = asking.messages.count_tokens(model=MODEL, messages=user("Zwölf Boxkämpfer"))
        with pytest.raises(anthropic.BadRequestError) as refused:
            asking.messages.count_tokens(model=MODEL, messages=user([{"type": "document", "source": {}}]))
        assert site.last_id() == before
    assert plain.input_tokens == 5
    assert counted.input_tokens > 100
    assert _error(refused.value)["param"] == "messages[0].content[0]"


def _error(raised: anthropic.APIStatusError) -> dict[str, Any]:
    body = raised.body
    assert isinstance(body, dict)
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message", "param", "code"}
    error: dict[str, Any] = body["error"]
    return error
