"""`/v1/models`: what the site file says the page offers."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api_utils.state import ChildState, keyed
from contract.models import model_card, model_list, model_not_found


async def list_models(request: Request) -> Response:
    """Answer with all models, in OpenAI's list form."""
    state = ChildState.of(request)
    return JSONResponse(model_list(dict.fromkeys(state.page.models, state.site)))


async def get_model(request: Request) -> Response:
    """Answer with one model. Raises ApiError (404) for one that the site file does not list."""
    state, name = ChildState.of(request), request.path_params["name"]
    if name not in state.page.models:
        raise model_not_found(name, state.page.models)
    return JSONResponse(model_card(name, state.site))


routes = [Route("/v1/models", keyed(list_models)), Route("/v1/models/{name:path}", keyed(get_model))]
