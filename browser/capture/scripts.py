"""The JavaScript that runs in the page, put together once from hook.js, dom.js and the pieces here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).resolve().parent
_DOM = (_FOLDER / "dom.js").read_text(encoding="utf-8").partition("(() => {")
DOM = f"{_DOM[1]}{_DOM[2].rstrip()}"
_HOOK = (_FOLDER / "hook.js").read_text(encoding="utf-8")

# What a look at the page finds: `browser.page.tab.PageSnapshot`.
PROBE = f"""(wish) => {{
  const dom = {DOM};
  const holds = (marker) =>
    (!marker.selector || dom.seen(marker.selector)) && (!marker.url || new RegExp(marker.url).test(location.href));
  return {{
    logged_in: wish.logged_in.some(holds),
    logged_out: wish.logged_out.some(holds),
    ready: !wish.ready || dom.seen(wish.ready),
    answers: wish.answer ? document.querySelectorAll(wish.answer).length : 0,
    attached: wish.attached ? dom.count(wish.attached) : 0,
    answering: Boolean(wish.answering && dom.seen(wish.answering)),
    error: dom.errorOf(wish.error),
  }};
}}"""

ANSWER = f"(wish) => ({DOM}).answer(wish)"

BASELINE = """(wish) => {
  const count = (selector) => selector ? document.querySelectorAll(selector).length : 0;
  return { baseline: count(wish.answer), reasoning_baseline: count(wish.reasoning) };
}"""

# How many elements a CSS selector finds, and how many of them are visible; null if it is not one.
COUNTS = f"""(selector) => {{
  const dom = {DOM};
  try {{ return [document.querySelectorAll(selector).length, dom.count(selector)]; }} catch {{ return null; }}
}}"""

# The first element a selector finds, or null; Playwright's own selectors are not for the page to read.
_FIND = """const find = (selector) => { try { return document.querySelector(selector); } catch { return null; } };"""

# React and its like overwrite a value that is set on the element itself: they watch the prototype's setter.
# The value is read back one turn of the event loop later: by then a framework that rejects it has restored its own.
SET_VALUE = f"""async ([selector, text]) => {{
  {_FIND}
  const dom = {DOM};
  const element = find(selector);
  const prototype = element && {{ TEXTAREA: HTMLTextAreaElement, INPUT: HTMLInputElement }}[element.tagName]?.prototype;
  if (!prototype || !dom.visible(element) || element.disabled || element.readOnly) return null;
  element.focus();
  Object.getOwnPropertyDescriptor(prototype, "value").set.call(element, text);
  element.dispatchEvent(new InputEvent("input", {{ bubbles: true, inputType: "insertFromPaste", data: null }}));
  await new Promise((resolve) => setTimeout(resolve));
  return dom.typed(element);
}}"""

# Where to click, in pixels of the viewport, if the element is there, enabled, in view and not covered; else null.
POINT = f"""(selector) => {{
  {_FIND}
  const element = find(selector);
  if (!element || element.matches(":disabled, [aria-disabled=true]")) return null;
  const box = element.getBoundingClientRect();
  const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
  return box.width && box.height && element.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
}}"""

FOCUS = f"""(selector) => {{
  {_FIND}
  const element = find(selector);
  if (element !== document.activeElement) element?.focus();
  return Boolean(element) && element === document.activeElement;
}}"""

SELECT = f"""([selector, value]) => {{
  {_FIND}
  const element = find(selector);
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
IS_EMPTY = f"(element) => ({DOM}).typed(element) === ''"

DELETE_ALL = f"""(element) => {{
  ({SELECT_ALL})(element);
  document.execCommand("delete");
}}"""

# Whether the input holds a single line break: "br" or "blocks", by what the editor makes of it, and else null.
# Where line breaks are text, a browser puts a second one after the last, for the line after it to be seen.
BROKEN_LINE = f"""async (element) => {{
  await new Promise((resolve) => setTimeout(resolve));
  if (!["\\n", "\\n\\n"].includes(({DOM}).typed(element))) return null;
  return element.children.length > 1 && element.children[1].tagName !== "BR" ? "blocks" : "br";
}}"""

# Firefox drops the content of the DataTransfer of a synthetic event: there the property is replaced.
_DISPATCH_PASTE = """const paste = (element, clipboardData, arrived) => {
  const event = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
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
  return [({DOM}).typed(element), !("value" in element)];
}}"""

REQUEST_STATUS = """async (url) => {
  const response = await fetch(url, { credentials: "include", cache: "no-store", redirect: "manual" });
  return response.type === "opaqueredirect" ? 401 : response.status;
}"""


def hook(config: Mapping[str, Any]) -> str:
    """Return the script that goes into every page; config's keys: name, origin, port, token, rule."""
    with_config = _HOOK.replace("config = CONFIG", f"config = {json.dumps(config)}")
    return with_config.replace("dom = DOM", f"dom = {DOM}")
