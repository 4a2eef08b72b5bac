"""Names that are no model of a child: aliases, which fall back in order, and models with their site before them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import openai
import pytest

from contract.child_api import MODEL_HEADER
from contract.dialects.messages import COUNT_TOKENS_PATH
from coordinator.proxy.pool import Backend, Pool
from tests.coordinator.proxy.proxied import (
    Answer,
    Conversation,
    Script,
    ScriptedChildren,
    Served,
    ask,
    chat,
    request,
    served,
    upstream,
)

UNSUBMITTED = ScriptedChildren(submitted=False, retry=True)
DONE = b'data: {"choices":[]}\n\ndata: [DONE]\n\n'


async def answer(conversation: Conversation) -> None:
    await conversation.whole(b'{"input_tokens":1}', "content-type: application/json")


async def stream(conversation: Conversation) -> None:
    await conversation.begin_stream()
    await conversation.chunk(DONE)
    await conversation.end()


async def quota(conversation: Conversation) -> None:
    await conversation.whole(
        b'{"error":{"code":"quota"}}', "content-type: application/json", status="429 Too Many Requests"
    )


async def break_off(conversation: Conversation) -> None:
    conversation.writer.close()


@dataclass
class Two:
    """The API over two scripted children, each with a model of its own, and what each was asked for."""

    api: Served
    asked: dict[str, list[str]] = field(default_factory=lambda: {"a": [], "b": []})

    async def ask(self, model: str, *headers: str, path: str = "/v1/chat/completions", stream: bool = False) -> Answer:
        return await ask(self.api.port, request(chat(model=model, stream=stream), *headers, path=path))

    def ready(self, name: str, *, ready: bool) -> None:
        backend = self.api.pool.get(name)
        assert backend is not None
        self.api.pool.set_ready(backend, ready=ready)


@asynccontextmanager
async def two(
    tmp_path: Path,
    a: Script = answer,
    b: Script = answer,
    *,
    models: tuple[str, str] = ("m", "n"),
    children: ScriptedChildren = UNSUBMITTED,
) -> AsyncIterator[Two]:
    pool = Pool(max_queue=10)
    pool.aliases = {"quick": ("m", "n")}
    running: list[Two] = []

    def noting(name: str, script: Script) -> Script:
        async def noted(conversation: Conversation) -> None:
            running[0].asked[name] += conversation.header(MODEL_HEADER) or [""]
            await script(conversation)

        return noted

    async with upstream(noting("a", a)) as one, upstream(noting("b", b)) as other:
        pool.put(Backend("a", one, models=models[:1], token="t", ready=True, site="one"))
        pool.put(Backend("b", other, models=models[1:], token="t", ready=True, site="two"))
        async with served(pool, children, tmp_path) as api:
            running.append(Two(api))
            yield running[0]


async def test_the_child_is_told_which_model_is_meant(tmp_path: Path) -> None:
    async with two(tmp_path) as fleet:
        for model in ("quick", "m", "one/m", "n", "two/n"):
            assert (await fleet.ask(model)).status == 200
        # In the body the model stands by its own name where there is no header.
        assert fleet.asked == {"a": ["m", "", "m"], "b": ["", "n"]}
        assert (await fleet.ask("m", f"{MODEL_HEADER}: forbidden")).status == 200
        assert fleet.asked["a"][-1] == ""


async def test_any_name_of_a_model_passes(tmp_path: Path) -> None:
    name = 'größer "東京" / 100% 👩‍🚀'
    async with two(tmp_path, models=(name, "n")) as fleet:
        assert (await fleet.ask(f"one/{name}")).status == 200
        assert fleet.asked["a"] == [quote(name, safe="")]


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", [quota, break_off], ids=["quota", "lost"])
async def test_an_alias_falls_back_before_the_submission(tmp_path: Path, fault: Script, is_stream: bool) -> None:
    async with two(tmp_path, fault, stream if is_stream else answer) as fleet:
        shown = await fleet.ask("quick", stream=is_stream)
        assert (shown.status, fleet.asked) == (200, {"a": ["m"], "b": ["n"]})
        # A model has nobody to fall back to.
        assert (await fleet.ask("m", stream=is_stream)).status == (429 if fault is quota else 503)
        assert len(fleet.asked["b"]) == 1


@pytest.mark.parametrize("fault", [quota, break_off], ids=["quota", "lost"])
async def test_and_never_after_it(tmp_path: Path, fault: Script) -> None:
    submitted = ScriptedChildren(submitted=True, retry=False)
    async with two(tmp_path, fault, children=submitted) as fleet:
        shown = await fleet.ask("quick")
        assert (shown.status >= 400, shown.header("x-should-retry")) == (True, "false")
        assert fleet.asked == {"a": ["m"], "b": []}


async def test_an_alias_falls_back_where_no_child_is_ready(tmp_path: Path) -> None:
    async with two(tmp_path) as fleet:
        fleet.ready("a", ready=False)
        assert (await fleet.ask("quick")).status == 200
        assert fleet.asked == {"a": [], "b": ["n"]}
        fleet.ready("b", ready=False)
        shown = await fleet.ask("quick")
        assert (shown.status, shown.error["code"]) == (503, "none_ready")


async def test_the_last_error_is_passed_on_where_all_refuse(tmp_path: Path) -> None:
    async with two(tmp_path, quota, quota) as fleet:
        shown = await fleet.ask("quick")
        assert (shown.status, json.loads(shown.body)["error"]["code"]) == (429, "quota")
        assert fleet.asked == {"a": ["m"], "b": ["n"]}


async def test_what_takes_no_page_goes_by_aliases_too(tmp_path: Path) -> None:
    async with two(tmp_path, break_off) as fleet:
        assert (await fleet.ask("quick", path=COUNT_TOKENS_PATH)).status == 200
        assert (await fleet.ask("two/n", path=COUNT_TOKENS_PATH)).status == 200
        assert fleet.asked == {"a": ["m"], "b": ["n", "n"]}


async def test_models_are_listed_with_their_sites_and_aliases(tmp_path: Path) -> None:
    async with two(tmp_path) as fleet:
        client = fleet.api.client(max_retries=0)
        listed = {model.id: model.owned_by async for model in client.models.list()}
        assert listed == {"m": "one", "n": "two", "quick": "tabfleet"}
        assert (await client.models.retrieve("quick")).owned_by == "tabfleet"
        assert (await client.models.retrieve("two/n")).id == "two/n"
        fleet.api.pool.aliases = {}
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("quick")
        assert (await fleet.ask("quick")).error["message"].endswith("there are: m, n.")


async def test_one_model_of_two_sites_is_listed_for_each(tmp_path: Path) -> None:
    async with two(tmp_path, models=("m", "m")) as fleet:
        client = fleet.api.client(max_retries=0)
        listed = {model.id: model.owned_by async for model in client.models.list()}
        assert listed == {"m": "one, two", "one/m": "one", "two/m": "two", "quick": "tabfleet"}
        for model in ("m", "m", "two/m"):
            assert (await fleet.ask(model)).status == 200
        assert fleet.asked == {"a": [""], "b": ["", "m"]}
