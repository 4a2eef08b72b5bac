"""The routes that ask the page, one for each API dialect, and how a running request is cancelled.

A request of any dialect becomes a `PageRequest`, then a `Prompt` for the page; the page's answer becomes a
`ChatResponse` in the dialect's `AnswerFormat`.
"""

from __future__ import annotations

import secrets
from functools import partial
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_utils.chat_response import ChatResponse
from api_utils.dialects import PARSERS
from api_utils.dialects.page_request import PageRequest
from api_utils.error_responses import from_reason
from api_utils.prompt import Prompt, images_of, text_of
from api_utils.prompt_form import PromptForm
from api_utils.state import ChildState, has_control_token, keyed, read_json
from api_utils.usage import ESTIMATED, USAGE_HEADER, Usage
from contract.api_error import bad_request
from contract.chat_body import longest_s, stream_of
from contract.child_api import CANCEL_PATH, CANCEL_TIMEOUT_S, MODEL_HEADER, REQUEST_ID_HEADER
from contract.dialects import DIALECTS
from contract.dialects.dialect import Dialect
from contract.dialects.messages import COUNT_TOKENS_PATH, MESSAGES
from contract.models import model_not_found

_MAX_ID_LENGTH = 100


async def ask_page(dialect: Dialect, request: Request) -> Response:
    """Ask the page; answers come streamed or whole, as the request says. Raises ApiError."""
    state = ChildState.of(request)
    asked, prompt = await _read(dialect, request)
    reason = state.readiness().reason
    if reason is not None:
        raise from_reason(reason, f"the page cannot take a prompt now: {reason}", submitted=False)
    tokens = _tokens_of(prompt) if state.settings.estimate_usage else None
    answer_format = asked.answer_format(prompt.request_id, prompt_tokens=tokens)
    return ChatResponse(state.queue, prompt, dialect, answer_format, stream=bool(asked.stream))


async def count_tokens(request: Request) -> Response:
    """Estimate the tokens of a request in Anthropic's form; the page is not asked, and may be busy. Raises ApiError."""
    _, prompt = await _read(MESSAGES, request)
    return JSONResponse({"input_tokens": _tokens_of(prompt)}, headers={USAGE_HEADER: ESTIMATED})


async def _read(dialect: Dialect, request: Request) -> tuple[PageRequest, Prompt]:
    """Return what is asked, and what would be typed into the page for it. Raises ApiError."""
    state = ChildState.of(request)
    settings, page = state.settings, state.page
    body = await read_json(request, settings.max_body_bytes, longest_s(settings.stream_idle_timeout_s))
    if isinstance(body, dict):
        body["stream"] = stream_of(body.get("stream"))  # as the coordinator has read it
        if MODEL_HEADER in request.headers and has_control_token(
            request, ChildState.of(request).settings.tabfleet_control_token
        ):
            body["model"] = unquote(request.headers[MODEL_HEADER])
    asked = PARSERS[dialect.path](body)
    if asked.model not in page.models:
        raise model_not_found(asked.model, page.models)
    messages, tool_use, json_format = asked.messages, asked.tool_use, asked.json_format
    form = PromptForm.of(page.prompt_texts)
    text = text_of(messages, tool_use, json_format, form)
    images = images_of(messages, page.image_limits)
    return asked, Prompt(request_id_of(request), asked.model, text, images, asked.limits, tool_use, json_format, form)


def _tokens_of(prompt: Prompt) -> int:
    return Usage.of(len(prompt.text.encode(errors="replace")), 0).prompt_tokens


async def cancel(request: Request) -> Response:
    """Stop one request; answer 200 only when the page is on a fresh chat again, else 503."""
    request_id = request.path_params["request_id"]
    fresh = await ChildState.of(request).queue.cancel(request_id, timeout_s=CANCEL_TIMEOUT_S)
    return JSONResponse({"fresh": fresh}, status_code=200 if fresh else 503)


def request_id_of(request: Request) -> str:
    """Return the caller's x-request-id, or a new one. Raises ApiError (400) for one that is no plain word."""
    given = request.headers.get(REQUEST_ID_HEADER)
    if given is None:
        return secrets.token_hex(16)
    # It goes into a file and into log lines.
    if len(given) > _MAX_ID_LENGTH or not all(char.isalnum() or char in "-_." for char in given) or not given.isascii():
        raise bad_request("x-request-id takes up to 100 letters, digits, '-', '_' and '.'")
    return given


routes = [
    *(Route(path, keyed(partial(ask_page, dialect)), methods=["POST"]) for path, dialect in DIALECTS.items()),
    Route(COUNT_TOKENS_PATH, keyed(count_tokens), methods=["POST"]),
    Route(CANCEL_PATH, keyed(cancel), methods=["POST"]),
]
