"""The pieces of JavaScript that run in the page, put together once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent
_DOM = (_FOLDER / "dom.js").read_text(encoding="utf-8").partition("(() => {")
DOM = f"{_DOM[1]}{_DOM[2].rstrip()}"
_HOOK = (_FOLDER / "hook.js").read_text(encoding="utf-8")

PROBE = f"""(wish) => {{
  const dom = {DOM};
  const holds = (marker) =>
    (!marker.selector || dom.seen(marker.selector)) && (!marker.url || new RegExp(marker.url).test(location.href));
  const error = wish.error && [...document.querySelectorAll(wish.error)].find(dom.visible);
  return {{
    logged_in: wish.logged_in.some(holds),
    logged_out: wish.logged_out.some(holds),
    ready: !wish.ready || dom.seen(wish.ready),
    answers: wish.answer ? document.querySelectorAll(wish.answer).length : 0,
    answering: Boolean(wish.answering && dom.seen(wish.answering)),
    error: error ? error.textContent.slice(0, 1000) : null,
  }};
}}"""

ANSWER = f"(wish) => ({DOM}).answer(wish)"

# React and its like overwrite what is set behind their back: the prototype's setter is what they watch.
SET_VALUE = """(element, text) => {
  const prototype = { TEXTAREA: HTMLTextAreaElement, INPUT: HTMLInputElement }[element.tagName]?.prototype;
  if (!prototype) return;
  element.focus();
  Object.getOwnPropertyDescriptor(prototype, "value").set.call(element, text);
  element.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertFromPaste", data: null }));
}"""

SELECT_ALL = """(element) => {
  element.focus();
  if ("select" in element) element.select();
  else getSelection().selectAllChildren(element);
}"""

PASTE = """(element, text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  element.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""

# One turn of the event loop later: what a framework does not like, it has put back by then.
READ_BACK = f"""async (element) => {{
  await new Promise((resolve) => setTimeout(resolve));
  return ({DOM}).typed(element);
}}"""

REQUEST_STATUS = """async (url) => {
  const response = await fetch(url, { credentials: "include", cache: "no-store", redirect: "manual" });
  return response.type === "opaqueredirect" ? 401 : response.status;
}"""


def hook(config: Mapping[str, Any]) -> str:
    """Return the script that goes into every page; config's keys: name, origin, port, token, rule."""
    with_config = _HOOK.replace("config = CONFIG", f"config = {json.dumps(config)}")
    return with_config.replace("dom = DOM", f"dom = {DOM}")
