"""`/v1/chat/completions`, and how a running request is called off."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_utils.access import keyed, read_json
from api_utils.chat_request import parse_chat_request
from api_utils.chat_response import AnswerResponse, Question
from api_utils.images import images_of
from api_utils.prompt import prompt_of
from api_utils.responses import from_reason
from api_utils.routers.models import check_model
from api_utils.state import ChildState
from contract.api_error import bad_request
from contract.child_api import CANCEL_TIMEOUT_S

_MAX_ID_LENGTH = 100


async def chat_completions(request: Request) -> Response:
    """Ask the page; answers come streamed or whole, as the request says."""
    state = ChildState.of(request)
    chat = parse_chat_request(await read_json(request, state.settings.max_body_bytes))
    check_model(state, chat.model)
    prompt, images = prompt_of(chat.messages), images_of(chat.messages, state.page.image_limits)
    status = state.page.status
    if not status.ready:
        reason = status.reason or "starting"
        raise from_reason(reason, f"the page cannot take a prompt now: {reason}", submitted=False)
    question = Question(request_id_of(request), chat.model, prompt, images, bool(chat.stream))
    return AnswerResponse(state.desk, question)


async def cancel(request: Request) -> Response:
    """Stop one request; 200 only when the page is on a fresh chat again."""
    request_id = request.path_params["request_id"]
    fresh = await ChildState.of(request).desk.cancel(request_id, timeout_s=CANCEL_TIMEOUT_S)
    return JSONResponse({"fresh": fresh}, status_code=200 if fresh else 503)


def request_id_of(request: Request) -> str:
    """The caller's x-request-id, or a new one. It goes into a file and into log lines, so it is checked."""
    given = request.headers.get("x-request-id")
    if given is None:
        return secrets.token_hex(16)
    if len(given) > _MAX_ID_LENGTH or not all(char.isalnum() or char in "-_." for char in given) or not given.isascii():
        raise bad_request("x-request-id takes up to 100 letters, digits, '-', '_' and '.'")
    return given


routes = [
    Route("/v1/chat/completions", keyed(chat_completions), methods=["POST"]),
    Route("/requests/{request_id}/cancel", keyed(cancel), methods=["POST"]),
]
