"""The JavaScript that runs in the page, put together once from hook.js, dom.js and the pieces here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent
_DOM = (_FOLDER / "dom.js").read_text(encoding="utf-8").partition("((mayHaveRoots")
DOM = f"{_DOM[1]}{_DOM[2].rstrip()}"
_OWN_DOM = f"{DOM}()"
_HOOK = (_FOLDER / "hook.js").read_text(encoding="utf-8")

# Makes the function that looks at the page. It is made once for each document and called by a handle: to send and parse
# all of it at every look was half of a look's cost. The hook, if there is one, knows of shadow roots.
LOOKER = f"""(wish) => {{
  const dom = {DOM}(window[wish.hook]?.mayHaveRoots);
  return () => dom.look(wish);
}}"""

ANSWER = f"(wish) => {_OWN_DOM}.answer(wish)"

BASELINE = f"""(wish) => {{
  const dom = {_OWN_DOM};
  return {{ baseline: dom.findAll(wish.answer).length, reasoning_baseline: dom.findAll(wish.reasoning).length }};
}}"""

# How many elements a path finds, and how many of them are visible; null if the browser takes no such selector.
COUNTS = f"""(path) => {{
  const dom = {_OWN_DOM};
  try {{ return [dom.findAll(path).length, dom.count(path)]; }} catch {{ return null; }}
}}"""

# The first element that a path finds in the page itself, or null: what is in a frame is left to Playwright.
_FIND = f"""const find = (path) => {{
    if (path?.length !== 1) return null;
    const first = () => document.querySelector(path[0].css) || {_OWN_DOM}.findAll(path)[0];
    try {{ return first() || null; }} catch {{ return null; }}
  }};"""

# React and its like overwrite a value that is set on the element itself: they watch the prototype's setter.
# The value is read back one turn of the event loop later: by then a framework that rejects it has restored its own.
SET_VALUE_OF = f"""async (element, text) => {{
  const dom = {_OWN_DOM};
  const prototype = {{ TEXTAREA: HTMLTextAreaElement, INPUT: HTMLInputElement }}[element.tagName]?.prototype;
  if (!prototype || !dom.visible(element) || element.disabled || element.readOnly) return null;
  element.focus();
  Object.getOwnPropertyDescriptor(prototype, "value").set.call(element, text);
  const about = {{ bubbles: true, composed: true, inputType: "insertFromPaste", data: null }};
  element.dispatchEvent(new InputEvent("input", about));
  await new Promise((resolve) => setTimeout(resolve));
  return dom.typed(element);
}}"""

SET_VALUE = f"""async ([path, text]) => {{
  {_FIND}
  const element = find(path);
  return element && ({SET_VALUE_OF})(element, text);
}}"""

# Where to click, in pixels of the viewport, if the element is there, enabled, in view and not covered; else null.
POINT = f"""(path) => {{
  {_FIND}
  const element = find(path);
  if (!element || element.matches(":disabled, [aria-disabled=true]")) return null;
  const box = element.getBoundingClientRect();
  const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
  return box.width && box.height && element.contains(element.getRootNode().elementFromPoint(x, y)) ? [x, y] : null;
}}"""

FOCUS = f"""(path) => {{
  {_FIND}
  const element = find(path);
  if (!element) return false;
  const hasFocus = () => element === element.getRootNode().activeElement;
  if (!hasFocus()) element.focus();
  return hasFocus();
}}"""

SELECT = f"""([path, value]) => {{
  {_FIND}
  const element = find(path);
  if (!(element instanceof HTMLSelectElement) || element.matches(":disabled")) return false;
  if (element.value === value) return true;
  element.value = value;
  if (element.value !== value) return false;
  element.dispatchEvent(new Event("input", {{ bubbles: true, composed: true }}));
  element.dispatchEvent(new Event("change", {{ bubbles: true }}));
  return true;
}}"""

SELECT_ALL = """(element) => {
  element.focus();
  if ("select" in element) element.select();
  else getSelection().selectAllChildren(element);
}"""

# An editor may hold empty blocks or a line break of its own: what counts is that it holds no text.
IS_EMPTY = f"(element) => {_OWN_DOM}.typed(element) === ''"

DELETE_ALL = f"""(element) => {{
  ({SELECT_ALL})(element);
  document.execCommand("delete");
}}"""

# Whether the input holds a single line break: "br" or "blocks", by what the editor makes of it, and else null.
# Where line breaks are text, a browser puts a second one after the last, for the line after it to be seen.
BROKEN_LINE = f"""async (element) => {{
  await new Promise((resolve) => setTimeout(resolve));
  if (!["\\n", "\\n\\n"].includes({_OWN_DOM}.typed(element))) return null;
  return element.children.length > 1 && element.children[1].tagName !== "BR" ? "blocks" : "br";
}}"""

# Firefox drops the content of the DataTransfer of a synthetic event: there the property is replaced.
_DISPATCH_PASTE = """const paste = (element, clipboardData, arrived) => {
  const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, composed: true, cancelable: true });
  if (!event.clipboardData || !arrived(event.clipboardData)) {
    Object.defineProperty(event, "clipboardData", { value: clipboardData });
  }
  element.dispatchEvent(event);
};"""

PASTE = f"""(element, {{ text, html }}) => {{
  {_DISPATCH_PASTE}
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  if (html) clipboardData.setData("text/html", html);
  paste(element, clipboardData, (given) => given.types.length);
}}"""

PASTE_FILES = f"""(element, files) => {{
  {_DISPATCH_PASTE}
  element.focus();
  const clipboardData = new DataTransfer();
  for (const {{ name, mimeType, buffer }} of files) {{
    const bytes = Uint8Array.from(atob(buffer), (character) => character.charCodeAt(0));
    clipboardData.items.add(new File([bytes], name, {{ type: mimeType }}));
  }}
  paste(element, clipboardData, (given) => given.files.length);
}}"""

READ_BACK = f"""async (element) => {{
  await new Promise((resolve) => setTimeout(resolve));
  return [{_OWN_DOM}.typed(element), !("value" in element)];
}}"""

REQUEST_STATUS = """async ([url, method]) => {
  const response = await fetch(url, { method, credentials: "include", cache: "no-store", redirect: "manual" });
  return response.type === "opaqueredirect" ? 401 : response.status;
}"""


def hook(config: Mapping[str, Any]) -> str:
    """Return the script that goes into every page; config's keys: name, origin, port, token, rule."""
    with_config = _HOOK.replace("config = CONFIG", f"config = {json.dumps(config)}")
    return with_config.replace("dom = DOM", f"dom = {DOM}")
