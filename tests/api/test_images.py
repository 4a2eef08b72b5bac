"""Images in a chat request: what reaches the page, and what is refused with the part's name."""

from __future__ import annotations

import base64
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_utils.conversation import Message
from api_utils.prompt import images_of
from browser.page.images import Image, ImageLimits, MediaType
from contract.api_error import ApiError
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage
from tests.support.pictures import data_url, image, part

URL = "/v1/chat/completions"
LIMITS = ImageLimits(max_count=3, max_bytes=2000)
WHERE = "messages[0].content[1].image_url"
PICTURES = [image(kind, mark=kind.encode()) for kind in get_args(MediaType)]


def ask(*parts: Any, before: Any = "What is this?") -> dict[str, Any]:
    content = [{"type": "text", "text": before}, *parts]
    return {"model": "demo-small", "messages": [{"role": "user", "content": content}]}


def url_part(url: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, "detail": "high"}}


async def test_images_reach_the_page_in_order_as_they_are(serve: Serve) -> None:
    page = ScriptedPage(limits=LIMITS)
    async with serve(page) as client:
        for wanted in (PICTURES[:3], PICTURES[3:], []):
            response = await client.post(URL, json=ask(*map(part, wanted)))
            assert response.status == 200, await response.text()
            assert page.images[-1] == tuple(wanted)
            assert page.prompts[-1][1] == "What is this?"


async def test_a_mark_stands_where_an_image_belongs_in_a_conversation(serve: Serve) -> None:
    page = ScriptedPage(limits=LIMITS)
    first, second = PICTURES[:2]
    messages = [
        {"role": "system", "content": "Compare."},
        {"role": "user", "content": [part(first), {"type": "text", "text": "before"}]},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "text", "text": "after"}, part(second)]},
    ]
    async with serve(page) as client:
        assert (await client.post(URL, json={"model": "demo-small", "messages": messages})).status == 200
    assert page.prompts[0][1] == (
        "System:\nCompare.\n\nUser:\n[image 1]\nbefore\n\nAssistant:\nok\n\nUser:\nafter\n[image 2]"
    )
    assert page.images == [(first, second)]


@pytest.mark.parametrize(
    ("given_part", "param", "says"),
    [
        (url_part("https://example.com/cat.png"), f"{WHERE}.url", "not fetched"),
        (url_part("HTTP://127.0.0.1/cat.png"), f"{WHERE}.url", "not fetched"),
        (url_part("file:///etc/passwd"), f"{WHERE}.url", "data URL"),
        (url_part("data:image/png,plain"), f"{WHERE}.url", "data URL"),
        (url_part("data:image/png;base64"), f"{WHERE}.url", "data URL"),
        (url_part("data:image/svg+xml;base64,PHN2Zy8+"), f"{WHERE}.url", "image/svg+xml"),
        (url_part("data:;base64,AAAA"), f"{WHERE}.url", "PNG"),
        (url_part("data:image/png;base64,AAA"), f"{WHERE}.url", "base64"),
        (url_part("data:image/png;base64,AA AA"), f"{WHERE}.url", "base64"),
        (url_part("data:image/png;base64,ü"), f"{WHERE}.url", "base64"),
        (url_part("data:image/png;base64,"), f"{WHERE}.url", "none of these"),
        (url_part(""), f"{WHERE}.url", "data URL"),
        (url_part(7), WHERE, "object"),
        ({"type": "image_url"}, WHERE, "object"),
        ({"type": "image_url", "image_url": "https://example.com/cat.png"}, f"{WHERE}.url", "not fetched"),
        (part(image(mark=b"x" * 2000)), f"{WHERE}.url", "2000 bytes"),
        (part(image(mark=b"x" * (2000 - len(image().data) + 1))), f"{WHERE}.url", "not 2001"),
    ],
)
async def test_what_is_no_image_is_named(serve: Serve, given_part: Any, param: str, says: str) -> None:
    page = ScriptedPage(limits=LIMITS)
    async with serve(page) as client:
        response = await client.post(URL, json=ask(given_part))
        error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (400, "invalid_request", param)
    assert param in error["message"]
    assert says in error["message"]
    assert page.prompts == []


async def test_an_image_of_just_the_largest_size_is_taken(serve: Serve) -> None:
    largest = image(mark=b"x" * (2000 - len(image().data)))
    assert len(largest.data) == 2000
    page = ScriptedPage(limits=LIMITS)
    async with serve(page) as client:
        assert (await client.post(URL, json=ask(part(largest)))).status == 200
    assert page.images == [(largest,)]


async def test_too_many_images_name_the_first_that_is_too_many(serve: Serve) -> None:
    async with serve(ScriptedPage(limits=LIMITS)) as client:
        response = await client.post(URL, json=ask(*[part(PICTURES[0])] * 4))
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "messages[0].content[4]")
    assert "at most 3" in error["message"]


async def test_a_page_that_takes_no_images_says_so(serve: Serve) -> None:
    page = ScriptedPage()
    async with serve(page) as client:
        response = await client.post(URL, json=ask(part(PICTURES[0])))
        error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, "unsupported_parameter")
    assert error["param"] == "messages[0].content[1]"
    assert "takes no images" in error["message"]
    assert page.prompts == []


@pytest.mark.parametrize("role", ["system", "assistant"])
async def test_only_users_have_images(serve: Serve, role: str) -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": role, "content": [part(PICTURES[0])]}]
    async with serve(ScriptedPage(limits=LIMITS)) as client:
        response = await client.post(URL, json={"model": "demo-small", "messages": messages})
        error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, "messages[1].content")


async def test_images_without_a_word_go_with_their_marks(serve: Serve) -> None:
    page = ScriptedPage(limits=LIMITS)
    async with serve(page) as client:
        messages = [{"role": "user", "content": [part(picture) for picture in PICTURES[:2]]}]
        response = await client.post(URL, json={"model": "demo-small", "messages": messages})
        assert response.status == 200, await response.text()
    assert page.prompts[0][1] == "[image 1]\n[image 2]"
    assert page.images == [tuple(PICTURES[:2])]


@pytest.mark.parametrize("label", ["image/png", "image/jpg", "application/octet-stream", ""])
async def test_an_image_is_what_its_bytes_say(serve: Serve, label: str) -> None:
    page = ScriptedPage(limits=LIMITS)
    url = data_url(PICTURES[1]).replace("image/jpeg", label)
    async with serve(page) as client:
        for given in (url_part(url), {"type": "image_url", "image_url": url}):
            response = await client.post(URL, json=ask(given))
            assert response.status == 200, await response.text()
    assert page.images == [(PICTURES[1],)] * 2


@given(st.one_of(st.text(), st.text().map("data:image/png;base64,".__add__), st.binary().map(base64.b64encode)))
def test_whatever_stands_in_the_url_is_an_image_or_a_refusal(url: str | bytes) -> None:
    text = url if isinstance(url, str) else f"data:image/gif;base64,{url.decode()}"
    message = Message.model_validate({"role": "user", "content": [url_part(text)]})
    assert _outcome(message) in (Image, (400, "messages[0].content[0].image_url.url"))


def _outcome(message: Message) -> object:
    try:
        return type(images_of([message], LIMITS)[0])
    except ApiError as error:
        return error.status, error.param
