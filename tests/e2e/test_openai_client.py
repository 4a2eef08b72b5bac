"""The API as the real OpenAI client sees it, with its default retries."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, get_args

import openai
import pytest
from pydantic import BaseModel

from browser.page.images import MediaType
from tests.e2e.fleet import MODEL, Fleet, Site
from tests.support.pictures import image, part


def sha256(text: str) -> str:
    """Return the SHA-256 of the text in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def test_models(two: Fleet) -> None:
    assert MODEL in [model.id for model in two.client().models.list()]
    assert two.client().models.retrieve(MODEL).id == MODEL


def test_an_answer_comes_from_the_page(two: Fleet, site: Site) -> None:
    prompt = "What is a quay?"
    before = site.last_id()
    answer = two.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == prompt
    assert answer.choices[0].message.content == entry["answer"]
    assert entry["token"] in entry["answer"]
    assert sha256(prompt) in entry["answer"]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == -(-len(entry["answer"].encode()) // 4)


def test_a_streamed_answer_arrives_token_by_token(two: Fleet, site: Site) -> None:
    before = site.last_id()
    stream = two.client().chat.completions.create(
        model="demo-large",
        messages=[{"role": "user", "content": "[[tokens=40 delay_ms=5]] Count."}],
        stream=True,
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    (entry,) = site.ledger(since=before)
    assert "".join(pieces) == entry["answer"]
    assert entry["model"] == "demo-large"
    assert len([piece for piece in pieces if piece]) > 10


def test_a_conversation_becomes_one_prompt(two: Fleet, site: Site) -> None:
    before = site.last_id()
    two.client().chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Zwölf Boxkämpfer 🥊 jagen\nVictor"},
        ],
    )
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == "System:\nBe brief.\n\nUser:\nZwölf Boxkämpfer 🥊 jagen\nVictor"


def says(text: str) -> str:
    return f"say={text.encode().hex()}"


WEATHER: openai.types.chat.ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


BAD_CALL = '```tool_call\n{"name": "weather", "arguments": {"town": "Oslo"}}\n```'
GOOD_CALL = BAD_CALL.replace("town", "city")


def test_a_bad_call_is_repaired_on_the_page_that_made_it(two: Fleet, site: Site) -> None:
    before = site.last_id()
    content = f"[[{says(BAD_CALL)}]] [[next {says(GOOD_CALL)}]]"
    answer = two.client().chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": content}], tools=[WEATHER], tool_choice="required"
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Oslo"}
    first, second = site.ledger(since=before)
    assert (first["conversation"], first["account"]) == (second["conversation"], second["account"])
    assert second["prompt"].startswith("Your last answer cannot be used: it calls weather with wrong arguments")


def test_a_repair_that_fails_sends_the_request_to_no_other_page(two: Fleet, site: Site) -> None:
    before = site.last_id()
    content = f"[[{says(BAD_CALL)}]] [[next break_off]]"
    with pytest.raises(openai.InternalServerError) as caught:
        two.client().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], tools=[WEATHER]
        )
    assert caught.value.code == "site_error"
    first, second = site.ledger(since=before)
    assert first["conversation"] == second["conversation"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_turn_with_a_tool(two: Fleet, site: Site, *, stream: bool) -> None:
    before = site.last_id()
    said = 'I look it up.\n\n```tool_call\n{"name": "weather", "arguments": {"city": "Oslo"}}\n```'
    question: openai.types.chat.ChatCompletionMessageParam = {
        "role": "user",
        "content": f"[[say={said.encode().hex()}]] How is the weather in Oslo?",
    }
    chat = two.client().chat.completions
    choice: openai.types.chat.chat_completion.Choice
    if stream:
        with chat.stream(model=MODEL, messages=[question], tools=[WEATHER]) as events:
            choice = events.get_final_completion().choices[0]
    else:
        choice = chat.create(model=MODEL, messages=[question], tools=[WEATHER]).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I look it up."
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})

    answer = chat.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "How is the weather in Oslo?"},
            {
                "role": "assistant",
                "content": choice.message.content,
                "tool_calls": [{"id": call.id, "type": "function", "function": call.function.to_dict()}],  # type: ignore[typeddict-item]
            },
            {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
        ],
        tools=[WEATHER],
    )
    first, second = site.ledger(since=before)
    assert first["prompt"].startswith("Tools:\n")
    said_again = said.replace("\n\n", "\n")
    assert second["prompt"].endswith(
        f"User:\nHow is the weather in Oslo?\n\nAssistant:\n{said_again}\n\nTool (weather):\nRain."
    )
    assert answer.choices[0].message.content == second["answer"]
    assert answer.choices[0].finish_reason == "stop"


class Place(BaseModel):
    city: str
    visits: int


def test_an_answer_is_parsed_into_the_callers_model(two: Fleet, site: Site) -> None:
    before = site.last_id()
    said = '```json\n{"city": "Oslo", "visits": 3}\n```'
    answer = two.client().chat.completions.parse(
        model=MODEL,
        messages=[{"role": "user", "content": f"[[say={said.encode().hex()}]] Where have I been?"}],
        response_format=Place,
    )
    assert answer.choices[0].message.parsed == Place(city="Oslo", visits=3)
    with pytest.raises(openai.APIStatusError) as failed:
        two.client().chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": "Where have I been, again?"}], response_format=Place
        )
    assert failed.value.code == "bad_format"
    _, asked, repair = site.ledger(since=before)
    assert asked["conversation"] == repair["conversation"], "asked for once more where it was, and nowhere else"


@pytest.mark.parametrize("stream", [True, False])
def test_a_long_answer_ends_where_the_request_says(two: Fleet, site: Site, *, stream: bool) -> None:
    before = site.last_id()
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "[[tokens=20000]]"}]
    chat = two.client().chat.completions
    if stream:
        chunks = list(
            chat.create(
                model=MODEL, messages=messages, max_tokens=100, stream=True, stream_options={"include_usage": True}
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        reason, usage = chunks[-2].choices[0].finish_reason, chunks[-1].usage
    else:
        answer = chat.create(model=MODEL, messages=messages, max_tokens=100)
        text, reason, usage = answer.choices[0].message.content or "", answer.choices[0].finish_reason, answer.usage
    assert reason == "length"
    assert usage is not None
    assert (len(text.encode()), usage.completion_tokens) == (400, 100)
    (entry,) = site.ledger(since=before)
    assert entry["answer"].startswith(text)
    assert site.ledger(since=before, outcome="stopped", wait_s=30)


def test_errors_map_to_the_clients_classes(two: Fleet, site: Site) -> None:
    before = site.last_id()
    messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
    wrong_key = openai.OpenAI(base_url=f"{two.url}/v1", api_key="wrong")
    with pytest.raises(openai.AuthenticationError):
        wrong_key.chat.completions.create(model=MODEL, messages=messages)
    with pytest.raises(openai.AuthenticationError):
        wrong_key.models.list()
    with pytest.raises(openai.NotFoundError):
        two.client().chat.completions.create(model="gpt-unknown", messages=messages)
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        two.client().chat.completions.create(model=MODEL, messages=messages, logprobs=True)
    assert site.ledger(since=before) == []


def test_a_long_prompt_arrives_as_it_was_sent(two: Fleet, site: Site) -> None:
    prompt = "\n".join(f"line {number:05d} of a long prompt, with some text" for number in range(2000))
    before = site.last_id()
    two.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == prompt


def test_images_arrive_byte_for_byte(two: Fleet, site: Site) -> None:
    pictures = [image(kind, mark=kind.encode()) for kind in get_args(MediaType)]
    pictures.append(image(size=3, mark=bytes(range(1, 256)) * 4000))
    before = site.last_id()
    content: Any = [{"type": "text", "text": "What is this?"}, *map(part, pictures)]
    answer = two.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == "What is this?"
    assert entry["images"] == [
        {"type": one.media_type, "bytes": len(one.data), "sha256": hashlib.sha256(one.data).hexdigest()}
        for one in pictures
    ]
    assert all(image["sha256"] in (answer.choices[0].message.content or "") for image in entry["images"])


@pytest.mark.parametrize("url", ["https://example.com/cat.png", "data:image/png;base64,AAAA"])
def test_what_is_no_image_is_refused_naming_the_parameter(two: Fleet, site: Site, url: str) -> None:
    before = site.last_id()
    content: Any = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    with pytest.raises(openai.BadRequestError) as refused:
        two.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    assert refused.value.param == "messages[0].content[1].image_url.url"
    assert site.ledger(since=before) == []


def test_each_request_gets_its_own_conversation(two: Fleet, site: Site) -> None:
    """Send enough requests that each child serves several."""
    before = site.last_id()
    for number in range(6):
        prompt = f"secret number {number} of this caller"
        answer = two.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": prompt}])
        assert sha256(prompt) in (answer.choices[0].message.content or "")
    entries = site.ledger(since=before)
    assert len({entry["conversation"] for entry in entries}) == len(entries) == 6


def test_ready_shows_when_each_login_expires(two: Fleet) -> None:
    """The demo site's sessions last seven days, as the expiry of the cookie in the browser says."""
    ends = [child["login_expires_at"] - time.time() for child in two.children().values()]
    assert [6 < left / 86_400 <= 7 for left in ends] == [True, True]
