"""The real clients of the API, with all their defaults but one, for an address without TLS.

Each would read all certificate authorities of the system when it is made: 35 ms of CPU, for hundreds of them.
"""

from __future__ import annotations

from typing import Any

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI


def openai_client(url: str, key: str, **more: Any) -> OpenAI:
    """Return the client of OpenAI's API below `url`; `more` are its own options."""
    return OpenAI(base_url=f"{url}/v1", api_key=key, http_client=DefaultHttpxClient(verify=False), **more)


def async_openai_client(url: str, key: str, **more: Any) -> AsyncOpenAI:
    """Return the same for asyncio."""
    return AsyncOpenAI(base_url=f"{url}/v1", api_key=key, http_client=DefaultAsyncHttpxClient(verify=False), **more)
