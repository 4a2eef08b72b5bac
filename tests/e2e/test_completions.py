"""Legacy completions as the real OpenAI client sees them."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.fleet import MODEL, Fleet, Site


@pytest.mark.parametrize("prompt", ["What is a quay?", ["What is a quay?"]])
def test_an_answer_comes_from_the_page(two: Fleet, site: Site, prompt: Any) -> None:
    before = site.last_id()
    answer = two.client().completions.create(model=MODEL, prompt=prompt)
    (entry,) = site.ledger(since=before)
    assert entry["prompt"] == "What is a quay?"
    assert answer.object == "text_completion"
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (entry["answer"], "stop")
    assert answer.usage is not None
    # OpenAI ends an answer after 16 tokens where the request does not say otherwise.
    assert answer.usage.completion_tokens == -(-len(entry["answer"].encode()) // 4) > 16


def test_a_streamed_answer_arrives_token_by_token(two: Fleet, site: Site) -> None:
    before = site.last_id()
    chunks = list(
        two.client().completions.create(
            model=MODEL,
            prompt="[[tokens=40 delay_ms=5]] Count.",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    (entry,) = site.ledger(since=before)
    pieces = [chunk.choices[0].text for chunk in chunks if chunk.choices]
    assert "".join(pieces) == entry["answer"]
    assert len([piece for piece in pieces if piece]) > 10
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == -(-len(entry["answer"].encode()) // 4)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_ends_where_the_request_says(two: Fleet, site: Site, *, stream: bool) -> None:
    said = b"one two STOP three".hex()
    for given, text, reason in (({"stop": "STOP"}, "one two ", "stop"), ({"max_tokens": 1}, "one ", "length")):
        create: Any = two.client().completions.create
        answer = create(model=MODEL, prompt=f"[[say={said}]] Say.", stream=stream, **given)
        chunks = list(answer) if stream else [answer]
        assert "".join(chunk.choices[0].text for chunk in chunks) == text
        assert chunks[-1].choices[0].finish_reason == reason


def test_what_a_page_cannot_do_is_refused_by_name(two: Fleet, site: Site) -> None:
    before = site.last_id()
    for param, prompt, more in (
        ("prompt", ["one", "two"], {}),
        ("prompt[0]", [1, 2, 3], {}),
        ("suffix", "hi", {"suffix": "."}),
        ("echo", "hi", {"echo": True}),
        ("logprobs", "hi", {"logprobs": 0}),
    ):
        create: Any = two.client().completions.create
        with pytest.raises(openai.BadRequestError) as refused:
            create(model=MODEL, prompt=prompt, **more)
        assert refused.value.param == param
    with pytest.raises(openai.NotFoundError):
        two.client().completions.create(model="gpt-unknown", prompt="hi")
    assert site.ledger(since=before) == []


@pytest.mark.parametrize("stream", [True, False])
def test_a_failure_after_the_submission_is_not_submitted_again(two: Fleet, site: Site, *, stream: bool) -> None:
    before = site.last_id()
    with pytest.raises(openai.APIError) as failed:
        list(
            two.client().completions.create(
                model=MODEL, prompt="[[error=middle tokens=60 delay_ms=20]] Fail.", stream=stream
            )
        )
    assert failed.value.code == "site_error"
    assert len(site.ledger(since=before)) == 1
