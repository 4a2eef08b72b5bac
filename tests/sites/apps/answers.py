"""What the chat apps of these tests answer. Each app runs in an environment of its own (scripts/app-env).

A prompt says in double square brackets what it wants: code, error, empty, endless, table, unicode, words=N. Every
answer holds its prompt's digest and a token of its own. With say=HEX,HEX it is the first of these texts (UTF-8) and
nothing else, and the later ones answer the next prompts of the conversation, whatever they are. What an app received
and answered goes to the file in APP_LEDGER, one JSON object a line.
"""

import hashlib
import json
import os
import re
import secrets
from pathlib import Path

PAUSE_S = 0.02  # a page that lays Markdown out anew with each token is kept busy by more
_script: list[str] = []
USERNAME, PASSWORD = "ada", "lovelace"


def record(**fields: object) -> None:
    with Path(os.environ["APP_LEDGER"]).open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(fields) + "\n")


def begin(prompt: str, earlier: int) -> tuple[str, list[str]]:
    """Note a prompt; return the answer's token and its words. Raises RuntimeError where the prompt wants it."""
    token = secrets.token_hex(16)
    record(prompt=prompt, token=token, earlier=earlier)
    if "[[error]]" in prompt:
        raise RuntimeError("made to fail")
    if script := re.search(r"\[\[say=([0-9a-f,]+)\]\]", prompt):
        _script[:] = [bytes.fromhex(text).decode() for text in script[1].split(",")]
    elif not earlier:
        _script.clear()
    if _script:
        return token, re.findall(r"\S*\s*", _script.pop(0))
    return token, [] if "[[empty]]" in prompt else _words(prompt, token)


def _words(prompt: str, token: str) -> list[str]:
    digest = hashlib.sha256(prompt.encode()).hexdigest()
    counted = re.search(r"\[\[words=(\d+)\]\]", prompt)
    count = int(counted[1]) if counted else 20
    words = [f"sha256={digest} ", f"token={token} ", "\n\n", *(f"word{number} " for number in range(count))]
    if "[[code]]" in prompt:
        words += ["\n\n```python\n", "def f(x):\n", "    return x\n", "```\n\n", "- one\n", "- **two**\n", "end"]
    if "[[table]]" in prompt:
        words += ["\n\n| one | two |\n", "| --- | --- |\n", "| 1 | *a* |\n", "| 2 | `b` |\n\n", "end"]
    if "[[unicode]]" in prompt:
        words += ["Grüße ", "東京 ", "👩‍🚀 ", "e\u0301 ", "עברית ", "\u2028", "\U0001d54f"]
    if "[[endless]]" in prompt:
        words += [f"more{number} " for number in range(100_000)]
    return words
