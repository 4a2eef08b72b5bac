"""What the coordinator adds to the Responses dialect: it keeps responses, for every request may go to another child.

Requests are passed on as they come, but for two cases: with `previous_response_id` a child gets the items of that
conversation in a field of their own, and references to items are replaced by the items. Items stay bytes: a body of
many megabytes is not made into objects on the loop that everybody shares.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Message, Send

from contract.api_error import ApiError, ErrorCode, bad_request, to_json, unsupported
from contract.dialects.responses import EARLIER_FIELD
from coordinator.proxy.admission import ChatBody
from coordinator.proxy.headers import HeaderMap
from coordinator.proxy.response import Connection
from coordinator.proxy.response_store import Kept, ResponseStore

ITEMS_PATH: Final = "/input_items"

_LAST_EVENT: Final = re.compile(rb"(?:\A|\n\n)event: response\.(?:completed|incomplete)\ndata: ")
_ITEM_ID: Final = re.compile(rb'"[a-z]+_(.+)_[0-9]+"')
_NULL: Final = msgspec.Raw(b"null")


class _Item(msgspec.Struct):
    type: msgspec.Raw = _NULL
    id: msgspec.Raw = _NULL


class _Answer(msgspec.Struct):
    id: str
    output: list[msgspec.Raw]


_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ITEM: Final = msgspec.json.Decoder(_Item)
_ANSWER: Final = msgspec.json.Decoder(_Answer)

_MOST_LISTED: Final = 100


@dataclass
class Turn:
    """One request for a response. `body` goes to a child, `send` records the answer.

    `held_bytes` is what it takes beside the body that came.
    """

    body: ChatBody
    send: Send
    held_bytes: int
    forget: Callable[[], None]
    """To be called once the answer has failed."""
    forget_unsent: Callable[[], None]
    """To be called once the client has left: a response that it was sent may be continued."""


class Responses:
    """Continues, keeps, shows and deletes responses."""

    def __init__(self, store: ResponseStore, max_body_bytes: int) -> None:
        """`max_body_bytes` is the most that a child takes."""
        self._store = store
        self._max_body_bytes = max_body_bytes

    def begin(self, headers: HeaderMap, body: ChatBody, send: Send, connection: Connection) -> Turn:
        """Return the request as a child can answer it. Raises ApiError: 404 for what is not kept, 413."""
        fields = _FIELDS.decode(body.raw)
        owner, given = headers.owner, _items_of(fields["input"])
        items = self._resolved(owner, given)
        name = fields.get("previous_response_id", _NULL)
        # Any other type is the child's to refuse.
        previous = msgspec.json.decode(name, type=str) if _is_text(name) else None
        earlier = self._store.conversation(owner, previous) if previous is not None else []
        inputs, held_bytes = b",".join(items), 0
        if earlier or items != given:
            if items != given:
                fields["input"] = msgspec.Raw(b"[%b]" % inputs)
            body = body._replace(raw=self._with_earlier(fields, earlier))
            held_bytes = len(body.raw)
        if bytes(fields.get("store", _NULL)) == b"false":
            return Turn(body, send, held_bytes, _nothing, _nothing)
        keeping = _Keeping(self._store, owner, inputs, previous)
        recorder = Recorder(send, connection, keeping.keep, self._store.limits.max_bytes)

        def forget_unsent() -> None:
            # A client that did not read was reset, with whatever still waited for it.
            if connection.stalled or not recorder.was_sent:
                keeping.forget()

        return Turn(body, recorder, held_bytes + len(inputs), keeping.forget, forget_unsent)

    def _with_earlier(self, fields: dict[str, msgspec.Raw], earlier: list[Kept]) -> bytes:
        fields.pop(EARLIER_FIELD, None)
        if earlier:
            turns = [part for kept in earlier for part in (kept.inputs, kept.outputs) if part]
            fields[EARLIER_FIELD] = msgspec.Raw(b"[%b]" % b",".join(turns))
        raw = msgspec.json.encode(fields)
        if len(raw) > self._max_body_bytes:
            raise self._too_large()
        return raw

    def _resolved(self, owner: bytes, given: list[bytes]) -> list[bytes]:
        """Return the items, for each reference the item that it names. Raises ApiError: 404, 413."""
        outputs: dict[str, dict[bytes, bytes]] = {}
        items, size = [], 0
        for index, item in enumerate(given):
            if item.startswith(b"{") and bytes((head := _ITEM.decode(item)).type) == b'"item_reference"':
                found = self._output_named(owner, bytes(head.id), outputs)
                if found is None:
                    where = f"input[{index}].id"
                    message = f"{where}: no item with this id is kept."
                    raise ApiError(ErrorCode.RESPONSE_NOT_FOUND, message, param=where)
                items.append(found)
                size += len(found)
                if size > self._max_body_bytes:  # a short reference may stand for a long item, many times
                    raise self._too_large()
            else:
                items.append(item)
        return items

    def _output_named(self, owner: bytes, item_id: bytes, outputs: dict[str, dict[bytes, bytes]]) -> bytes | None:
        """Return the output with this id, given as JSON. `outputs` has those of the responses read for this request."""
        # Our ids say which response an item belongs to.
        match = _ITEM_ID.fullmatch(item_id)
        if match is None:
            return None
        response_id = f"resp_{match[1].decode()}"
        if response_id not in outputs:
            kept = self._store.peek(owner, response_id)
            written = _ITEMS.decode(b"[%b]" % kept.outputs) if kept else []
            outputs[response_id] = {bytes(_ITEM.decode(output).id): bytes(output) for output in written}
        return outputs[response_id].get(item_id)

    def _too_large(self) -> ApiError:
        what = f"The body and the conversation before it are larger than {self._max_body_bytes} bytes"
        return ApiError(ErrorCode.BODY_TOO_LARGE, f"{what} (MAX_BODY_BYTES).")

    def show(self, headers: HeaderMap, name: str, query: bytes) -> bytes:
        """Return a response as JSON, or with `ITEMS_PATH` after its id what it answered. Raises ApiError: 400, 404."""
        options = dict(parse_qsl(query.decode("latin-1")))
        owner = headers.owner
        if not name.endswith(ITEMS_PATH):
            if options.get("stream") == "true":
                raise unsupported("stream", "a kept response is given whole")
            return self._store.find(owner, name).response
        name = name.removesuffix(ITEMS_PATH)
        kept = self._store.find(owner, name)
        earlier = self._store.conversation(owner, kept.previous) if kept.previous else []
        parts = [part for turn in earlier for part in (turn.inputs, turn.outputs)]
        items = _ITEMS.decode(b"[%b]" % b",".join(filter(None, [*parts, kept.inputs])))
        return msgspec.json.encode(_page([_shown(item, name, index) for index, item in enumerate(items)], options))

    def delete(self, headers: HeaderMap, response_id: str) -> bytes:
        """Forget a response; what continues it cannot be continued any more. Raises ApiError (404)."""
        owner = headers.owner
        self._store.find(owner, response_id)
        self._store.forget(owner, response_id)
        return to_json({"id": response_id, "object": "response", "deleted": True})


class _Keeping:
    """Keeps the response of one request, as soon as it is known."""

    def __init__(self, store: ResponseStore, owner: bytes, inputs: bytes, previous: str | None) -> None:
        self._store, self._owner, self._inputs, self._previous = store, owner, inputs, previous
        self._kept_id: str | None = None

    def keep(self, response: bytes) -> None:
        """Take the response, once it is complete."""
        answer = _ANSWER.decode(response)
        kept = Kept(response, self._inputs, b",".join(map(bytes, answer.output)), self._previous)
        if self._store.keep(self._owner, answer.id, kept):
            self._kept_id = answer.id

    def forget(self) -> None:
        """Drop what this request kept."""
        if self._kept_id is not None:
            self._store.forget(self._owner, self._kept_id)


class Recorder:
    """An ASGI `send` that looks for the complete response in what it passes on.

    A response is told before its last bytes are passed on: a client may continue it at once. `was_sent` is True once
    they have been, to a connection that still was there.
    """

    def __init__(self, send: Send, connection: Connection, tell: Callable[[bytes], None], max_bytes: int) -> None:
        """No response of more than `max_bytes` is told."""
        self.was_sent = False
        self._send, self._connection, self._tell, self._max_bytes = send, connection, tell, max_bytes
        self._has_told = False
        self._is_whole = self._is_stream = False
        self._recorded = b""

    async def __call__(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            kind = HeaderMap(message["headers"]).get(b"content-type") or ""
            self._is_stream = message["status"] == 200 and kind.startswith("text/event-stream")
            self._is_whole = message["status"] == 200 and not self._is_stream
        elif self._is_stream:
            self._record_event(message.get("body", b""))
        elif self._is_whole:
            self._record(message.get("body", b""), is_last=not message.get("more_body"))
        await self._send(message)
        if self._has_told and not self.was_sent:
            self._has_told, self.was_sent = False, not self._connection.lost

    def _record_event(self, events: bytes) -> None:
        if not self._recorded:
            # Events come whole, and a line break in what they hold is escaped.
            found = _LAST_EVENT.search(events)
            if found is None:
                return
            events = events[found.end() :]
        # The event ends with this line. The child's mark of the end need not come together with it, and a client does
        # not wait for that.
        data, line_break, _ = events.partition(b"\n")
        self._record(data, is_last=bool(line_break))

    def _record(self, body: bytes, *, is_last: bool) -> None:
        self._recorded += body
        if len(self._recorded) > self._max_bytes:
            self._is_stream = self._is_whole = False
            self._recorded = b""
        elif is_last:
            self._is_stream, self._is_whole, recorded = False, False, self._recorded
            try:
                found = _FIELDS.decode(recorded)
            except msgspec.DecodeError:
                return  # an error after white space
            self._tell(bytes(found["response"]) if "response" in found else recorded.strip())
            self._has_told = True


def _nothing() -> None:
    """Do nothing."""


def _is_text(value: msgspec.Raw) -> bool:
    return bytes(memoryview(value)[:1]) == b'"'


def _items_of(given: msgspec.Raw) -> list[bytes]:
    if _is_text(given):
        return [b'{"type":"message","role":"user","content":%b}' % bytes(given)]
    return [bytes(item) for item in _ITEMS.decode(given)]


def _shown(item: msgspec.Raw, response_id: str, index: int) -> dict[str, Any]:
    """Return an item as the API lists it: with an id, a status, and a list of parts."""
    fields: dict[str, Any] = _FIELDS.decode(item)
    kind, content = fields.get("type", "message"), fields.get("content", _NULL)
    shown = {"id": f"item_{response_id.removeprefix('resp_')}_{index}", "status": "completed", **fields, "type": kind}
    if isinstance(shown["id"], msgspec.Raw):
        shown["id"] = msgspec.json.decode(shown["id"])
    if _is_text(content):
        is_answer = bytes(fields.get("role", _NULL)) == b'"assistant"'
        part = {"type": "output_text", "annotations": []} if is_answer else {"type": "input_text"}
        shown["content"] = [{**part, "text": content}]
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
