"""`/v1/models`: what the site file says the page offers."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_utils.access import keyed
from api_utils.errors import ApiError
from api_utils.state import ChildState


async def list_models(request: Request) -> Response:
    """All models, in OpenAI's list form."""
    state = ChildState.of(request)
    return JSONResponse({"object": "list", "data": [model_card(name, state.site) for name in state.page.models]})


async def get_model(request: Request) -> Response:
    """One model, or 404."""
    state, name = ChildState.of(request), request.path_params["name"]
    check_model(state, name)
    return JSONResponse(model_card(name, state.site))


def model_card(name: str, site: str) -> dict[str, Any]:
    """A model in OpenAI's form; a page tells no date of creation, so it is 0."""
    return {"id": name, "object": "model", "created": 0, "owned_by": site}


def check_model(state: ChildState, name: str) -> None:
    """Raise ApiError (404) for a model that the site file does not list."""
    if name not in state.page.models:
        offered = ", ".join(state.page.models)
        message = f"the model {name[:100]!r} does not exist here; there are: {offered}"
        raise ApiError(404, "model_not_found", message, param="model")


routes = [Route("/v1/models", keyed(list_models)), Route("/v1/models/{name:path}", keyed(get_model))]
