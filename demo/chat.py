"""Submissions: the conversation they belong to, the answer as it is given, and both ways it travels."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from demo.accounts import Session
from demo.faults import Faults
from demo.images import Images
from demo.ledger import Entry, Ledger, Outcome, Transport
from demo.shape import FAILURES, Busy, Crash, Drop, Fail, Say, Shape, Step, Wait, compose, read_directives, steps
from demo.web import error_event

MODELS = ("demo-small", "demo-large", "demo-echo")
MAX_CONVERSATIONS = 20_000
_CONVERSATION = re.compile(r"[0-9a-zA-Z-]{8,64}")

Event = dict[str, Any]
Send = Callable[[Event], Awaitable[None]]


class Refused(Exception):
    """The submission is not taken; `status` is what HTTP says to that."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Dropped(Exception):
    """The connection is to be dropped with no further word."""


@dataclass(frozen=True)
class Ask:
    """A prompt as the page submits it."""

    conversation: str
    model: str
    prompt: str
    images: tuple[str, ...] = ()


def read_ask(data: dict[str, Any]) -> Ask:
    """Return the submission in a JSON object. Raises Refused for what no page of ours would send."""
    conversation, model, prompt = (data.get(name) for name in ("conversation", "model", "prompt"))
    if not isinstance(conversation, str) or not _CONVERSATION.fullmatch(conversation):
        raise Refused(400, "bad_request", "`conversation` must be 8 to 64 letters, digits or dashes.")
    if model not in MODELS:
        raise Refused(400, "bad_request", f"`model` must be one of {', '.join(MODELS)}.")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refused(400, "bad_request", "`prompt` must be a text that is not blank.")
    if re.search("[\ud800-\udfff]", prompt):
        raise Refused(400, "bad_request", "`prompt` holds half a surrogate pair.")
    images = data.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise Refused(400, "bad_request", "`images` must be a list of the ids of uploaded images.")
    return Ask(conversation, str(model), prompt, tuple(images))


@dataclass
class Conversation:
    """What the server remembers of a conversation."""

    account: str
    digests: list[str] = field(default_factory=list)
    running: "Run | None" = None


@dataclass
class Run:
    """One answer under way."""

    entry: Entry
    shape: Shape
    tokens: list[str]
    _stopped: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _stall_over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def stopped(self) -> bool:
        return self._stopped.done()

    def stop(self) -> None:
        if not self.stopped:
            self._stopped.set_result(None)

    def end_stall(self) -> None:
        """Go on after a stall that has no end of its own, now or when it comes to it."""
        if not self._stall_over.done():
            self._stall_over.set_result(None)

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the stop, or the end of the stall if `seconds` has none."""
        if seconds == inf:
            await asyncio.wait({self._stopped, self._stall_over}, return_when=asyncio.FIRST_COMPLETED)
        elif seconds > 0:
            await asyncio.wait({self._stopped}, timeout=seconds)
        else:
            await asyncio.sleep(0)


class Chat:
    """All conversations and the answers under way."""

    def __init__(self, ledger: Ledger, faults: Faults, images: Images) -> None:
        self._ledger = ledger
        self._images = images
        self._faults = faults
        self._conversations: dict[str, Conversation] = {}

    def submit(self, session: Session, ask: Ask, transport: Transport) -> Run:
        """Enter a submission into the ledger and its conversation.

        Raises Refused if the conversation or an image is somebody else's, or an answer is under way.
        """
        conversation = self._conversation(ask.conversation, session.account)
        if conversation.account != session.account:
            raise Refused(404, "not_found", "There is no such conversation.")
        if conversation.running:
            raise Refused(409, "conflict", "An answer is under way in this conversation.")
        try:
            images = self._images.find(session.account, ask.images)
        except KeyError:
            raise Refused(404, "not_found", "There is no such image.") from None
        entry = self._ledger.start(
            account=session.account,
            conversation=ask.conversation,
            transport=transport,
            model=ask.model,
            prompt=ask.prompt,
            images=images,
        )
        shape = self._faults.apply(session.account, read_directives(ask.prompt))
        conversation.running = Run(entry, shape, compose(entry, shape, conversation.digests))
        conversation.digests.append(entry.prompt_sha256)
        return conversation.running

    def _conversation(self, conversation_id: str, account: str) -> Conversation:
        if conversation_id not in self._conversations and len(self._conversations) >= MAX_CONVERSATIONS:
            idle = (key for key, value in self._conversations.items() if value.running is None)
            self._conversations.pop(next(idle, ""), None)
        return self._conversations.setdefault(conversation_id, Conversation(account))

    def stop(self, account: str, conversation_id: object) -> bool:
        """Stop the answer under way in a conversation. Returns whether there was one."""
        conversation = self._conversations.get(str(conversation_id))
        if conversation is None or conversation.account != account or conversation.running is None:
            return False
        conversation.running.stop()
        return True

    def end_stalls(self, account: str | None = None) -> None:
        """Let the account's answers that stall without an end go on (None: everybody's)."""
        for conversation in self._conversations.values():
            if conversation.running and account in (None, conversation.account):
                conversation.running.end_stall()

    def stop_all(self) -> None:
        for conversation in self._conversations.values():
            if conversation.running:
                conversation.running.stop()

    async def answer(self, run: Run, send: Send) -> None:
        """Give the answer, event by event, and close its ledger entry.

        `send` raises ConnectionError when the reader is gone. Raises Dropped to have the connection cut.
        """
        outcome: Outcome = "left"
        try:
            outcome = await self._play(run, send)
        except Dropped:
            outcome = "error"
            raise
        finally:
            self._end(run, outcome)

    def fail(self, run: Run) -> None:
        """Close the ledger entry of a submission that gets no answer."""
        self._end(run, "error")

    def _end(self, run: Run, outcome: Outcome) -> None:
        self._conversations[run.entry.conversation].running = None
        self._ledger.end(run.entry, outcome)

    async def _play(self, run: Run, send: Send) -> Outcome:
        await send({"type": "start", "id": run.entry.id, "conversation": run.entry.conversation})
        for step in steps(run.shape, run.tokens):
            if run.stopped:
                break
            if (failure := await _take(step, run, send)) is not None:
                return failure
        if run.stopped:
            await send({"type": "stopped"})
            return "stopped"
        await send({"type": "done"})
        return "done"


async def _take(step: Step, run: Run, send: Send) -> Outcome | None:
    match step:
        case Wait(seconds):
            await run.pause(seconds)
        case Say(text):
            run.entry.pieces.append(text)
            await send({"type": "token", "text": text})
        case Busy(milliseconds):
            await send({"type": "busy", "ms": milliseconds})
        case Crash():
            await send({"type": "crash"})
        case Fail(code):
            await send(error_event(code, FAILURES[code]))
            return "error"
        case Drop():
            raise Dropped
    return None


def encode(event: Event) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
