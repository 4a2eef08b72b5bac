"""The clients, how each is started, and what it cannot do by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
ENVIRONMENTS: Final = ROOT / ".cache" / "clients"
NODE: Final = ENVIRONMENTS / "node" / "bin" / "node"
NPM: Final = ENVIRONMENTS / "npm"


def call_block(tool: str, arguments: str) -> str:
    """Return a call of a tool in the form that docs/api.md asks of pages."""
    return f'```tool_call\n{{"name": "{tool}", "arguments": {arguments}}}\n```'


@dataclass(frozen=True)
class Client:
    """One client.

    `environment` is a lock file's name in requirements/clients; `script` is a module in python/, or a file in node/
    where it ends in `.mjs`. `lacks` names the scenarios that the client has no feature for, each with the reason;
    `calls` is how many of its calls a scenario needs, where that is not CALLS.

    What a page has to answer, where a client has a form of its own: `structured_tool` is the tool by which it has data
    given in place of `response_format`, `tool_call` calls `weather`, `final_form` stands around a TEXT (`stream_form`
    around a streamed one) and `data_form` around DATA.

    `recodes_images`: it sends other bytes than it was given. `least_pieces`: in how many pieces at least it gives a
    streamed answer.
    """

    title: str
    environment: str
    script: str
    lacks: Mapping[str, str] = field(default_factory=dict)
    calls: Mapping[str, int] = field(default_factory=dict)
    structured_tool: str = ""
    tool_call: str = ""
    final_form: str = "TEXT"
    stream_form: str = ""
    data_form: str = "```json\nDATA\n```"
    recodes_images: bool = False
    least_pieces: int = 10

    def final(self, text: str) -> str:
        """Return what a page has to answer for the client to take `text` as the answer."""
        return self.final_form.replace("TEXT", text)

    def command(self) -> list[str]:
        """Return the command line that starts the client's process at the top of the checkout."""
        if self.script.endswith(".mjs"):
            return [str(NODE), str(NPM / self.script)]
        return [str(ENVIRONMENTS / self.environment / "bin" / "python"), "-m", f"tests.clients.python.{self.script}"]


SCENARIOS: Final = (
    *("models", "chat", "stream", "history", "image", "tools", "structured", "stop"),
    *("wrong_key", "overload", "failure", "keyed"),
)
CALLS: Final = {"models": 0, "wrong_key": 0, "tools": 2, "handoff": 2}
"""How many calls of the API, each one submission, a scenario needs; one where it is not here."""

NO_LIST: Final = {"models": "it has no call that lists a server's models"}
DATA_ONLY: Final = "it returns data only"

CLIENTS: Final = {
    "openai-python": Client("openai (Python)", "openai", "openai_client"),
    "openai-node": Client("openai (Node)", "node", "openai.mjs"),
    "ai-sdk": Client("Vercel AI SDK (compatible)", "node", "ai-sdk.mjs", lacks=NO_LIST),
    "ai-sdk-openai": Client(
        "Vercel AI SDK (OpenAI)", "node", "ai-sdk-openai.mjs", lacks={**NO_LIST, "stop": "Responses has no `stop`"}
    ),
    "langchain-python": Client("LangChain (Python)", "langchain", "langchain_client", lacks=NO_LIST),
    "langchain-js": Client("LangChain.js", "node", "langchain.mjs", lacks=NO_LIST),
    "llama-index": Client("LlamaIndex", "llama-index", "llama_index_client", lacks=NO_LIST, structured_tool="Place"),
    "litellm": Client("LiteLLM (library)", "litellm", "litellm_library"),
    "litellm-router": Client("LiteLLM (Router)", "litellm", "litellm_router", lacks=NO_LIST),
    "litellm-proxy": Client("LiteLLM (proxy)", "litellm", "litellm_proxy"),
    "llm": Client("llm", "llm", "llm_cli", lacks=NO_LIST, calls={"history": 2}),
    "smolagents": Client(
        "smolagents (CodeAgent)",
        "smolagents",
        "smolagents_client",
        lacks=NO_LIST,
        calls={"history": 2},
        tool_call="<code>\nprint(weather(city='Oslo'))\n</code>",
        final_form="<code>\nfinal_answer('TEXT')\n</code>",
        data_form="""{"thought": "I know.", "code": "final_answer({'city': 'Oslo', 'visits': 3})"}""",
        recodes_images=True,
    ),
    "pydantic-ai": Client(
        "Pydantic AI", "pydantic-ai", "pydantic_ai_client", lacks=NO_LIST, structured_tool="final_result"
    ),
    "openai-agents": Client("OpenAI Agents SDK", "openai-agents", "openai_agents_client", lacks=NO_LIST),
    "instructor": Client(
        "instructor",
        "instructor",
        "instructor_client",
        lacks={**NO_LIST, "tools": DATA_ONLY, "stop": DATA_ONLY},
        structured_tool="Place",
        final_form=call_block("Answer", '{"text": "TEXT"}'),
        stream_form=call_block("PartialAnswer", '{"text": "TEXT"}'),
        least_pieces=1,  # the arguments of a call come in one piece, for they are checked first
    ),
    "anthropic": Client("anthropic", "anthropic", "anthropic_client", structured_tool="Place"),
    "open-webui": Client(
        "Open WebUI",
        "open-webui",
        "open_webui_client",
        lacks={"structured": "it shows answers as text", "keyed": "its headers are the same for all requests"},
        calls={"history": 2, "note": 2, "tasks": 4},
        least_pieces=3,  # the page draws all that has come since it last did
    ),
    "aider": Client(
        "aider",
        "aider",
        "aider_client",
        lacks={
            **NO_LIST,
            "tools": "it has edits written as text",
            "structured": "it has edits written as text",
            "stop": "it sets none",
        },
        calls={"history": 2},
    ),
}
