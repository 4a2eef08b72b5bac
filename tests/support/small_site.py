"""What small test pages and their site files have in common."""

from typing import Final

SHUTDOWN_S: Final = 0.05
"""How long a page's server waits at its end for what is still open: a page that a test leaves has a socket open."""

CHAT = """[fresh_chat]
actions = [{ click = "#new" }]
[input]
selector = "#prompt"
[send]
actions = [{ click = "#go" }]
[capture.network]
kind = "jsonl"
url = "*/ask"
text = "data.text"
end = "data.end"
"""
"""A page with a button for a new chat, a prompt, a button that sends it, and an answer in lines of JSON."""
