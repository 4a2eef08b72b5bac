"""What the caller gets where the page is asked once more: the second answer's calls or JSON, and what came before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from api_utils.tools import write_call
from tests.api.conftest import Serve
from tests.api.scripted_page import ScriptedPage
from tests.api.test_tools import NOW, OSLO, TOOLS

URL = "/v1/chat/completions"
BAD = write_call("weather", '{"city": 7}')
OBJECT = {"type": "json_object"}


def body(**more: Any) -> dict[str, Any]:
    return {"model": "demo-small", "messages": [{"role": "user", "content": "Weather?"}], **more}


def names(choice: Any) -> list[str]:
    return [call["function"]["name"] for call in choice["message"]["tool_calls"]]


async def asked(serve: Serve, page: ScriptedPage, **more: Any) -> Any:
    async with serve(page) as client:
        response = await client.post(URL, json=body(**more))
        return await response.json()


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (BAD, "it calls weather with wrong arguments: it breaks the schema's properties.city.type."),
        (write_call("delete_all", "{}"), "it calls a tool that was not given."),
        ("```tool_call\n{'name': 'now'}\n```", "its call of a tool is not valid JSON."),
    ],
)
async def test_the_page_is_told_what_was_wrong_and_its_second_calls_are_passed_on(
    serve: Serve, bad: str, problem: str
) -> None:
    page = ScriptedPage(pieces=("Let me see.\n", bad), later=[("Sorry!\n", OSLO, "\n", NOW)])
    choice = (await asked(serve, page, tools=TOOLS))["choices"][0]
    assert names(choice) == ["weather", "now"]
    assert choice["message"]["content"] == "Let me see."
    assert choice["finish_reason"] == "tool_calls"
    first, second = (text for _, text, _ in page.prompts)
    assert first.startswith("Tools:\n")
    assert second.startswith(f"Your last answer cannot be used: {problem}")
    assert '```tool_call\n{"name": "NAME", "arguments": {}}\n```' in second
    assert "are weather, now, with" in second
    assert second.endswith("If you need no tool, answer as usual.")


async def test_the_log_notes_each_repair_with_its_request_and_without_a_word_of_it(serve: Serve) -> None:
    with capture_logs() as lines:
        await asked(serve, ScriptedPage(pieces=(BAD,), later=[(OSLO,)]), tools=TOOLS)
        await asked(serve, ScriptedPage(pieces=(OSLO,)), tools=TOOLS)
    noted = [line for line in lines if line["event"] == "repair_asked"]
    assert [set(line) for line in noted] == [{"event", "log_level", "request", "reason"}]
    assert noted[0]["reason"] == "bad_tool_call"


async def test_in_a_stream_text_that_was_passed_on_stays_and_the_repair_follows(serve: Serve) -> None:
    page = ScriptedPage(pieces=("Let me see.\n\n", BAD, "\nmore"), later=[("It rains",)])
    async with serve(page) as client:
        streamed = await (await client.post(URL, json=body(tools=TOOLS, stream=True))).text()
    chunks = [json.loads(block[6:])["choices"][0] for block in streamed.split("\n\n")[:-2]]
    assert "".join(chunk["delta"].get("content", "") for chunk in chunks) == "Let me see.\n\nIt rains"
    assert chunks[-1]["finish_reason"] == "stop"
    assert streamed.endswith("data: [DONE]\n\n")


async def test_the_prompt_for_a_repair_is_short_whatever_the_tools(serve: Serve) -> None:
    many = [{"type": "function", "function": {"name": f"{'n' * 100}{number}"}} for number in range(500)]
    page = ScriptedPage(pieces=(BAD,), later=[("No.",)])
    assert (await asked(serve, page, tools=many))["choices"][0]["message"]["content"] == "No."
    assert len(page.prompts[1][1]) < 5000
    assert "n39 and the others listed above, with" in page.prompts[1][1]


async def test_calls_that_were_passed_on_are_not_made_twice(serve: Serve) -> None:
    page = ScriptedPage(pieces=(NOW, "\n", BAD), later=[(NOW, "\n", OSLO)])
    choice = (await asked(serve, page, tools=TOOLS, tool_choice="required"))["choices"][0]
    assert names(choice) == ["now", "weather"]
    assert page.prompts[1][1].endswith("Do not write the calls before it again: they were taken.")


async def test_a_repair_that_only_repeats_calls_adds_nothing(serve: Serve) -> None:
    page = ScriptedPage(pieces=(NOW, "\n", BAD), later=[("As I said:\n", NOW)])
    choice = (await asked(serve, page, tools=TOOLS))["choices"][0]
    assert names(choice) == ["now"]
    assert (choice["message"]["content"], choice["finish_reason"]) == (None, "tool_calls")


async def test_a_call_that_must_be_made_is_asked_for_again(serve: Serve) -> None:
    page = ScriptedPage(pieces=("I would rather not.",), later=[(OSLO,)])
    only = {"type": "function", "function": {"name": "weather"}}
    choice = (await asked(serve, page, tools=TOOLS, tool_choice=only))["choices"][0]
    assert names(choice) == ["weather"]
    assert "can be called are weather, with" in page.prompts[1][1]
    assert page.prompts[1][1].endswith("You must call the tool weather now.")


async def test_a_second_bad_answer_is_the_error_and_the_page_is_not_asked_a_third_time(serve: Serve) -> None:
    page = ScriptedPage(pieces=(BAD,), later=[(BAD,), (OSLO,)])
    assert (await asked(serve, page, tools=TOOLS))["error"]["code"] == "bad_tool_call"
    assert len(page.prompts) == 2
    page = ScriptedPage(pieces=("no",), later=[("still no",), ("{}",)])
    assert (await asked(serve, page, response_format=OBJECT))["error"]["code"] == "bad_format"
    assert len(page.prompts) == 2


@pytest.mark.parametrize("stream", [True, False])
async def test_json_is_asked_for_once_more_and_nothing_of_the_first_answer_is_passed_on(
    serve: Serve, *, stream: bool
) -> None:
    page = ScriptedPage(pieces=("Here it is: ", "{}"), later=[("```json\n", '{"city": "Oslo"}', "\n```")])
    async with serve(page) as client:
        text = await (await client.post(URL, json=body(response_format=OBJECT, stream=stream))).text()
    assert "Here" not in text
    assert json.dumps({"city": "Oslo"}).replace('"', '\\"') in text
    assert page.prompts[1][1] == (
        "Your last answer cannot be used: it is not JSON, as the request asks.\n"
        "Answer with one JSON object and nothing else: no other words, no code fence."
    )


async def test_the_usage_counts_both_prompts_and_both_answers(serve: Serve) -> None:
    page = ScriptedPage(pieces=("none", "none"), later=[("{}  ",)])
    usage = (await asked(serve, page, response_format=OBJECT))["usage"]
    typed = sum(len(text.encode()) for _, text, _ in page.prompts)
    assert usage["prompt_tokens"] == -(-typed // 4)
    assert usage["completion_tokens"] == 3


async def test_max_tokens_hold_over_both_answers(serve: Serve) -> None:
    page = ScriptedPage(pieces=("none", "none"), later=[("12345678",)])
    got = await asked(serve, page, response_format=OBJECT, max_tokens=3)
    assert got["choices"][0]["message"]["content"] == "1234"
    assert got["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("limit", [{"stop": ["END"]}, {"max_tokens": 4}])
async def test_an_answer_that_the_caller_had_cut_is_not_repaired(serve: Serve, limit: Any) -> None:
    page = ScriptedPage(pieces=("```tool_call\n", "{'a': 1END"), later=[(OSLO,)])
    assert (await asked(serve, page, tools=TOOLS, **limit))["error"]["code"] == "bad_tool_call"
    assert len(page.prompts) == 1


async def test_what_was_held_back_of_the_first_answer_is_not_in_the_second(serve: Serve) -> None:
    page = ScriptedPage(pieces=(BAD + "\nEN",), later=[("D of it",)])
    got = await asked(serve, page, tools=TOOLS, stop=["END"])
    assert got["choices"][0]["message"]["content"] == "D of it"
