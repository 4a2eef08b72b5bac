"""What the coordinator adds to the Responses dialect: it keeps responses, for every request may go to another child.

Requests are passed on as they come, but for two cases: with `previous_response_id` a child gets the items of that
conversation in a field of their own, and references to items are replaced by the items.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

import pydantic_core
from starlette.types import Message, Send

from contract.api_error import ApiError, ErrorCode, bad_request, to_json, unsupported
from contract.dialects.dialect import END_COMMENT
from contract.dialects.responses import EARLIER_FIELD
from coordinator.proxy.admission import ChatBody
from coordinator.proxy.headers import Headers, find
from coordinator.proxy.response_store import Kept, ResponseStore, owner_of

ITEMS_PATH: Final = "/input_items"

_LAST_EVENT: Final = re.compile(rb"(?:\A|\n\n)event: response\.(?:completed|incomplete)\ndata: ")
_ITEM_ID: Final = re.compile(r"[a-z]+_(.+)_[0-9]+")
_MOST_LISTED: Final = 100


@dataclass
class Turn:
    """One request for a response. `body` goes to a child, `send` records the answer; `forget` once that has failed.

    `held_bytes` is what it takes beside the body that came.
    """

    body: ChatBody
    send: Send
    forget: Callable[[], None]
    held_bytes: int


class Responses:
    """Continues, keeps, shows and deletes responses."""

    def __init__(self, store: ResponseStore, max_body_bytes: int) -> None:
        """`max_body_bytes` is the most that a child takes."""
        self._store = store
        self._max_body_bytes = max_body_bytes

    def begin(self, headers: Headers, body: ChatBody, send: Send) -> Turn:
        """Return the request as a child can answer it. Raises ApiError: 404 for what is not kept, 413."""
        fields = pydantic_core.from_json(body.raw)
        owner, previous, given = owner_of(headers), fields.get("previous_response_id"), _listed(fields["input"])
        items = self._resolved(owner, given)
        # Any other type is the child's to refuse.
        earlier = self._store.conversation(owner, previous) if isinstance(previous, str) else []
        held_bytes = 0
        if earlier or any(resolved is not item for resolved, item in zip(items, given, strict=True)):
            if isinstance(fields["input"], list):
                fields["input"] = items
            body = replace(body, raw=self._with_earlier(fields, earlier))
            held_bytes = len(body.raw)
        if fields.get("store") is False:
            return Turn(body, send, _nothing, held_bytes)
        inputs = _joined(items)
        keeping = _Keeping(self._store, owner, inputs, previous if isinstance(previous, str) else None)
        recorder = Recorder(send, keeping.keep, self._store.limits.max_bytes)
        return Turn(body, recorder, keeping.forget, held_bytes + len(inputs))

    def _with_earlier(self, fields: dict[str, Any], earlier: list[Kept]) -> bytes:
        fields.pop(EARLIER_FIELD, None)
        turns = [part for kept in earlier for part in (kept.inputs, kept.outputs) if part]
        raw = to_json(fields)
        if len(raw) + sum(map(len, turns)) > self._max_body_bytes:
            what = f"The body and the conversation before it are larger than {self._max_body_bytes} bytes"
            raise ApiError(ErrorCode.BODY_TOO_LARGE, f"{what} (MAX_BODY_BYTES).")
        if not earlier:
            return raw
        return b'%b,"%b":[%b]}' % (raw[:-1], EARLIER_FIELD.encode(), b",".join(turns))

    def _resolved(self, owner: bytes, given: list[Any]) -> list[Any]:
        """Return the items, for each reference the item of a kept response that it names. Raises ApiError (404)."""
        outputs: dict[str, list[Any]] = {}
        items = []
        for index, item in enumerate(given):
            if not isinstance(item, dict) or item.get("type") != "item_reference":
                items.append(item)
                continue
            # Our ids say which response an item belongs to.
            item_id = item.get("id")
            match = _ITEM_ID.fullmatch(item_id) if isinstance(item_id, str) else None
            response_id = f"resp_{match[1]}" if match else ""
            if response_id not in outputs:
                with suppress(ApiError):
                    outputs[response_id] = json.loads(b"[%b]" % self._store.find(owner, response_id).outputs)
            found = [output for output in outputs.get(response_id, ()) if output["id"] == item_id]
            if not found:
                where = f"input[{index}].id"
                raise ApiError(ErrorCode.RESPONSE_NOT_FOUND, f"{where}: no item with this id is kept.", param=where)
            items += found
        return items

    def show(self, headers: Headers, name: str, query: bytes) -> bytes:
        """Return a response as JSON, or with `ITEMS_PATH` after its id what it answered. Raises ApiError: 400, 404."""
        options = dict(parse_qsl(query.decode("latin-1")))
        owner = owner_of(headers)
        if not name.endswith(ITEMS_PATH):
            if options.get("stream") == "true":
                raise unsupported("stream", "a kept response is given whole")
            return self._store.find(owner, name).response
        name = name.removesuffix(ITEMS_PATH)
        kept = self._store.find(owner, name)
        earlier = self._store.conversation(owner, kept.previous) if kept.previous else []
        parts = [part for turn in earlier for part in (turn.inputs, turn.outputs)]
        items = json.loads(b"[%b]" % b",".join(filter(None, [*parts, kept.inputs])))
        return to_json(_page([_shown(item, name, index) for index, item in enumerate(items)], options))

    def delete(self, headers: Headers, response_id: str) -> bytes:
        """Forget a response; what continues it cannot be continued any more. Raises ApiError (404)."""
        owner = owner_of(headers)
        self._store.find(owner, response_id)
        self._store.forget(owner, response_id)
        return to_json({"id": response_id, "object": "response", "deleted": True})


class _Keeping:
    """Keeps the response of one request, as soon as it is known."""

    def __init__(self, store: ResponseStore, owner: bytes, inputs: bytes, previous: str | None) -> None:
        self._store, self._owner, self._inputs, self._previous = store, owner, inputs, previous
        self._kept_id: str | None = None

    def keep(self, response: dict[str, Any]) -> None:
        """Take the response, once it is complete."""
        kept = Kept(to_json(response), self._inputs, _joined(response["output"]), self._previous)
        if self._store.keep(self._owner, response["id"], kept):
            self._kept_id = response["id"]

    def forget(self) -> None:
        """Drop what this request kept."""
        if self._kept_id is not None:
            self._store.forget(self._owner, self._kept_id)


class Recorder:
    """An ASGI `send` that looks for the complete response in what it passes on.

    A response is told before its last bytes are passed on: a client may continue it at once.
    """

    def __init__(self, send: Send, tell: Callable[[dict[str, Any]], None], max_bytes: int) -> None:
        """No response of more than `max_bytes` is told."""
        self._send, self._tell, self._max_bytes = send, tell, max_bytes
        self._is_whole = self._is_stream = False
        self._recorded = b""

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            kind = find(message["headers"], b"content-type") or ""
            self._is_stream = message["status"] == 200 and kind.startswith("text/event-stream")
            self._is_whole = message["status"] == 200 and not self._is_stream
        elif self._is_stream:
            self._record_event(message.get("body", b""))
        elif self._is_whole:
            self._record(message.get("body", b""), is_last=not message.get("more_body"))
        await self._send(message)

    def _record_event(self, events: bytes) -> None:
        if not self._recorded:
            # Events come whole, and a line break in what they hold is escaped.
            found = _LAST_EVENT.search(events)
            if found is None:
                return
            events = events[found.end() :]
        tail = self._recorded[-len(END_COMMENT) :] + events
        self._record(events, is_last=tail.endswith(END_COMMENT))

    def _record(self, body: bytes, *, is_last: bool) -> None:
        self._recorded += body
        if len(self._recorded) > self._max_bytes:
            self._is_stream = self._is_whole = False
            self._recorded = b""
        elif is_last:
            self._is_stream, self._is_whole, recorded = False, False, self._recorded
            try:
                found = json.loads(recorded.removesuffix(END_COMMENT))
            except ValueError:
                return  # an error after white space
            self._tell(found.get("response", found))


def _nothing() -> None:
    """Do nothing."""


def _listed(given: Any) -> list[Any]:
    return [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given


def _joined(items: list[Any]) -> bytes:
    """Return items as JSON with commas between."""
    return to_json(items)[1:-1]


def _shown(item: dict[str, Any], response_id: str, index: int) -> dict[str, Any]:
    """Return an item as the API lists it: with an id, a status, and a list of parts."""
    kind = item.get("type", "message")
    shown = {"id": f"item_{response_id.removeprefix('resp_')}_{index}", "status": "completed", **item, "type": kind}
    if isinstance(item.get("content"), str):
        is_answer = item.get("role") == "assistant"
        part = {"type": "output_text", "annotations": []} if is_answer else {"type": "input_text"}
        shown["content"] = [{**part, "text": item["content"]}]
    return shown


def _page(items: list[dict[str, Any]], options: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of the items, by the query's `order`, `after` and `limit`. Raises ApiError (400)."""
    order, after, limit = options.get("order", "desc"), options.get("after"), options.get("limit", "20")
    if order not in ("asc", "desc"):
        raise bad_request("order: must be asc or desc", param="order")
    if not re.fullmatch(r"[0-9]{1,4}", limit) or not 1 <= int(limit) <= _MOST_LISTED:
        raise bad_request(f"limit: must be a number from 1 to {_MOST_LISTED}", param="limit")
    ordered = items if order == "asc" else items[::-1]
    if after is not None:
        places = [index for index, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise bad_request("after: there is no such item", param="after")
        ordered = ordered[places[0] + 1 :]
    data = ordered[: int(limit)]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(ordered) > len(data)}
