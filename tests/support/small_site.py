"""What the site files of small test pages have in common."""

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
