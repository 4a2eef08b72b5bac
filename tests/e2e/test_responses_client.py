"""The Responses dialect as the real OpenAI client sees it, with its default retries, from real pages."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.e2e.fleet import MODEL, Fleet, Site
from tests.support.pictures import data_url, image

WEATHER: openai.types.responses.FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '```tool_call\n{"name": "weather", "arguments": {"city": "Oslo"}}\n```'


def say(text: str) -> str:
    """Return the words that make the demo page say this text."""
    return f"[[say={text.encode().hex()}]]"


def test_a_whole_answer_comes_from_the_page(two: Fleet, site: Site) -> None:
    before = site.last_id()
    answer = two.client().responses.create(model=MODEL, input="What is a quay?", instructions="Be brief.")
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == "System:\nBe brief.\n\nUser:\nWhat is a quay?"
    assert (answer.status, answer.output_text) == ("completed", entry["answer"])
    assert answer.usage is not None
    assert answer.usage.output_tokens == -(-len(entry["answer"].encode()) // 4)


def test_a_streamed_answer_arrives_token_by_token(two: Fleet, site: Site) -> None:
    before = site.last_id()
    with two.client().responses.stream(model=MODEL, input="[[tokens=40 delay_ms=5]] Count.") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    (entry,) = site.ledger(since=before)
    assert "".join(deltas) == final.output_text == entry["answer"]
    assert len(deltas) > 10


@pytest.mark.parametrize("stream", [True, False])
def test_a_response_is_continued_by_its_id(two: Fleet, site: Site, *, stream: bool) -> None:
    """A client that streams continues at once, before the stream has ended."""
    client, before = two.client(), site.last_id()
    first = _respond(client, stream=stream, input=f"{say('one')} 1", instructions="Be brief.")
    second = _respond(client, stream=stream, input=f"{say('two')} 2", previous_response_id=first.id)
    third = _respond(client, stream=stream, input="[[memory]] 3", previous_response_id=second.id)
    assert third.previous_response_id == second.id
    prompts = [entry["prompt"] for entry in site.ledger(since=before)]
    # Instructions are not carried over.
    assert prompts[1] == f"User:\n{say('one')} 1\n\nAssistant:\none\n\nUser:\n{say('two')} 2"
    assert prompts[2] == f"{prompts[1]}\n\nAssistant:\ntwo\n\nUser:\n[[memory]] 3"

    assert client.responses.retrieve(second.id).output_text == "two"
    listed = client.responses.input_items.list(third.id, order="asc", limit=2)
    texts = [item.content[0].text for item in listed if item.type == "message"]  # type: ignore[union-attr]
    assert texts == [f"{say('one')} 1", "one", f"{say('two')} 2", "two", "[[memory]] 3"]
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)
    for gone in (second.id, third.id):
        with pytest.raises(openai.NotFoundError) as failed:
            client.responses.create(model=MODEL, input="4", previous_response_id=gone)
        assert (failed.value.code, failed.value.param) == ("previous_response_not_found", "previous_response_id")
    assert len(site.ledger(since=before)) == 3


def _respond(client: openai.OpenAI, *, stream: bool, **request: Any) -> openai.types.responses.Response:
    if not stream:
        answer: openai.types.responses.Response = client.responses.create(model=MODEL, **request)
        return answer
    for event in client.responses.create(model=MODEL, stream=True, **request):
        if event.type == "response.completed":
            completed: openai.types.responses.Response = event.response
            return completed
    raise AssertionError("the stream has no response")


def test_a_response_is_not_kept_against_the_callers_will(two: Fleet) -> None:
    client = two.client()
    answer = client.responses.create(model=MODEL, input=say("one"), store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("by", ["items", "id", "reference"])
def test_a_turn_with_a_function(two: Fleet, site: Site, *, by: str, stream: bool) -> None:
    before, client = site.last_id(), two.client()
    said = say(f"I look it up.\n\n{CALL}")
    question: Any = {"role": "user", "content": f"{said} How is the weather in Oslo?"}
    if stream:
        with client.responses.stream(model=MODEL, input=[question], tools=[WEATHER]) as events:
            first: Any = events.get_final_response()
    else:
        first = client.responses.create(model=MODEL, input=[question], tools=[WEATHER])
    assert first.output_text == "I look it up."
    call = first.output[1]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Oslo"})

    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."}
    if by == "id":
        answer = client.responses.create(model=MODEL, input=[output], previous_response_id=first.id, tools=[WEATHER])
    else:
        items: Any = [item.to_dict() for item in first.output]
        if by == "reference":
            items = [{"type": "item_reference", "id": item["id"]} for item in items]
        answer = client.responses.create(model=MODEL, input=[question, *items, output], tools=[WEATHER])
    _, second = site.ledger(since=before)
    assert second["prompt"].endswith(f"in Oslo?\n\nAssistant:\nI look it up.\n{CALL}\n\nTool (weather):\nRain.")
    assert answer.status == "completed"


class Place(BaseModel):
    city: str
    visits: int


def test_an_answer_is_parsed_into_the_callers_model(two: Fleet, site: Site) -> None:
    before, client = site.last_id(), two.client()
    said = say('```json\n{"city": "Oslo", "visits": 3}\n```')
    answer = client.responses.parse(model=MODEL, input=f"{said} Where have I been?", text_format=Place)
    assert answer.output_parsed == Place(city="Oslo", visits=3)
    with client.responses.stream(model=MODEL, input=f"{said} And now?", text_format=Place) as stream:
        assert stream.get_final_response().output_parsed == Place(city="Oslo", visits=3)
    with pytest.raises(openai.APIStatusError) as failed:
        client.responses.parse(model=MODEL, input="Where have I been, again?", text_format=Place)
    assert failed.value.code == "bad_format"
    *_, asked, repair = site.ledger(since=before)
    assert asked["conversation"] == repair["conversation"], "asked for once more where it was, and nowhere else"


def test_an_image_arrives_byte_for_byte(two: Fleet, site: Site) -> None:
    picture, before = image(mark=b"a mark"), site.last_id()
    content: Any = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": data_url(picture), "detail": "auto"},
    ]
    two.client().responses.create(model=MODEL, input=[{"role": "user", "content": content}])
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == "What is this?"
    assert [one["sha256"] for one in entry["images"]] == [hashlib.sha256(picture.data).hexdigest()]


@pytest.mark.parametrize("stream", [True, False])
def test_a_long_answer_ends_where_the_request_says(two: Fleet, site: Site, *, stream: bool) -> None:
    before, client = site.last_id(), two.client()
    request: Any = {"model": MODEL, "input": "[[tokens=20000]]", "max_output_tokens": 100}
    if stream:
        events = list(client.responses.create(**request, stream=True))
        assert events[-1].type == "response.incomplete"
        answer = events[-1].response
    else:
        answer = client.responses.create(**request)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert len(answer.output_text.encode()) == 400
    assert site.ledger(since=before, outcome="stopped", wait_s=30)
    assert client.responses.retrieve(answer.id).output_text == answer.output_text


def test_errors_map_to_the_clients_classes(two: Fleet, site: Site) -> None:
    before, client = site.last_id(), two.client()
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{two.url}/v1", api_key="wrong").responses.create(model=MODEL, input="hi")
    with pytest.raises(openai.NotFoundError, match="gpt-unknown"):
        client.responses.create(model="gpt-unknown", input="hi")
    with pytest.raises(openai.BadRequestError, match="'web_search'") as refused:
        client.responses.create(model=MODEL, input="hi", tools=[{"type": "web_search"}])
    assert refused.value.param == "tools[0].type"
    content: Any = [{"type": "input_image", "image_url": "https://example.com/cat.png", "detail": "auto"}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input=[{"role": "user", "content": content}])
    assert refused.value.param == "input[0].content[0].image_url"
    assert site.ledger(since=before) == []


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_after_the_submission_is_submitted_once(two: Fleet, site: Site, *, stream: bool) -> None:
    before = site.last_id()
    with pytest.raises(openai.APIStatusError) as failed:
        two.client().responses.create(model=MODEL, input="[[error=server]] It fails.", stream=stream)
    assert (failed.value.status_code, failed.value.response.headers["x-should-retry"]) == (502, "false")
    assert len(site.ledger(since=before)) == 1


def test_a_stream_that_fails_midway_raises_and_is_submitted_once(two: Fleet, site: Site) -> None:
    before, client = site.last_id(), two.client()
    seen: list[openai.types.responses.ResponseStreamEvent] = []
    stream = client.responses.create(model=MODEL, input="[[error=middle]] It fails.", stream=True)
    with pytest.raises(openai.APIError) as failed:
        seen.extend(stream)
    assert failed.value.code == "site_error"
    assert seen[-1].type == "response.output_text.delta"
    with (
        pytest.raises(openai.APIError, match=failed.value.message),
        client.responses.stream(model=MODEL, input="[[error=middle]] It fails again.") as again,
    ):
        again.until_done()
    assert len(site.ledger(since=before)) == 2
    # What has failed cannot be continued.
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(seen[0].response.id)  # type: ignore[union-attr]
