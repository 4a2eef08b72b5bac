"""The API as the real OpenAI client sees it, with its default retries."""

from __future__ import annotations

import hashlib
import time
from typing import Any, get_args

import openai
import pytest

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
    assert answer.usage is None


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
    with pytest.raises(openai.BadRequestError, match="response_format"):
        two.client().chat.completions.create(model=MODEL, messages=messages, response_format={"type": "json_object"})
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
