"""The routes under `/v1`: which of them a path means, and what a caller is told when it means none."""

from __future__ import annotations

from typing import Final

from contract.api_error import ApiError, ErrorCode
from contract.dialects import DIALECTS

MODELS_PATH: Final = "/v1/models"
_PATHS: Final = (*DIALECTS, MODELS_PATH)


def route_of(path: str) -> str:
    """Return the path of the route that is meant, the path itself if there is none.

    Clients put a base URL and a path together, and either may have `/v1`, or a slash more than needed.
    """
    base, slash, model = path.partition(f"{MODELS_PATH}/")
    if path in _PATHS or (not base and slash and model.strip("/")):
        return path  # as it is: the name of a model may have any slashes
    steps = [step for step in path.split("/") if step]
    while steps[:1] == ["v1"]:
        del steps[0]
    meant = "/".join(["/v1", *steps])
    # Below a route there may be others, as that of one model.
    return meant if any(meant == route or meant.startswith(f"{route}/") for route in _PATHS) else path


def no_route() -> ApiError:
    """Return the error (404) for a path that is none; it names those there are, and the usual mistake."""
    routes = ", ".join([*(f"POST {path}" for path in DIALECTS), f"GET {MODELS_PATH}"])
    return ApiError(
        ErrorCode.NOT_FOUND,
        f"There is no such route. There are {routes}; a client's base_url is the server's address, /v1 and no more.",
    )


def wrong_method(allowed: str) -> ApiError:
    """Return the error (405) for a route that takes other methods, given as in the `Allow` header."""
    allowed = ", ".join(sorted(allowed.split(", ")))  # Starlette names them in no order
    message = f"This route takes {allowed} only."
    return ApiError(ErrorCode.METHOD_NOT_ALLOWED, message, headers={"allow": allowed})
