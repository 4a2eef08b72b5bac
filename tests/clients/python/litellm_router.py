"""LiteLLM's Router: https://docs.litellm.ai/docs/routing"""

from __future__ import annotations

from typing import Any

from litellm import Router

from tests.clients.python.litellm_library import scenarios
from tests.clients.python.protocol import Row, serve


def ask(row: Row, messages: list[Any], **more: Any) -> Any:
    parameters = {"model": f"openai/{row.model}", "api_base": row.base_url, "api_key": row.api_key}
    more |= {"extra_headers": dict(row.headers)} if row.headers else {}
    router = Router(model_list=[{"model_name": "page", "litellm_params": parameters}])
    return router.completion(model="page", messages=messages, **more)


if __name__ == "__main__":
    serve(scenarios(ask))
