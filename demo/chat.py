"""Conversations of the demo site: validate a submission, record it and generate its answer as events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from demo.accounts import Session
from demo.errors import DemoError
from demo.faults import Faults
from demo.images import Images
from demo.ledger import Entry, Ledger, Outcome, Transport
from demo.shape import (
    FAILURES,
    Busy,
    Crash,
    Drop,
    Fail,
    SendText,
    Shape,
    Wait,
    compose,
    read_directives,
    read_next,
    steps,
)
from demo.web import error_event

MODELS = ("demo-small", "demo-large", "demo-echo")
MAX_CONVERSATIONS = 20_000
_CONVERSATION = re.compile(r"[0-9a-zA-Z-]{8,64}")

Event = dict[str, Any]
Send = Callable[[Event], Awaitable[None]]


class SubmissionRefused(DemoError):
    """The submission is invalid or not allowed; `status` is the HTTP status to answer with."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class DropConnection(DemoError):
    """A fault asks to close the connection in the middle of the answer."""


@dataclass(frozen=True)
class Submission:
    """A prompt as the page submits it; `images` are ids of earlier uploads."""

    conversation: str
    model: str
    prompt: str
    images: tuple[str, ...] = ()


def parse_submission(data: dict[str, Any]) -> Submission:
    """Validate a submission given as a JSON object. Raise SubmissionRefused if it is invalid."""
    conversation, model, prompt = (data.get(name) for name in ("conversation", "model", "prompt"))
    if not isinstance(conversation, str) or not _CONVERSATION.fullmatch(conversation):
        raise SubmissionRefused(400, "bad_request", "`conversation` must be 8 to 64 letters, digits or dashes.")
    if model not in MODELS:
        raise SubmissionRefused(400, "bad_request", f"`model` must be one of {', '.join(MODELS)}.")
    if not isinstance(prompt, str) or not prompt.strip():
        raise SubmissionRefused(400, "bad_request", "`prompt` must be a non-blank string.")
    # JSON may escape half of a surrogate pair; it has no UTF-8 form, so the digest could not be computed.
    if re.search("[\ud800-\udfff]", prompt):
        raise SubmissionRefused(400, "bad_request", "`prompt` contains an unpaired surrogate.")
    images = data.get("images", [])
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise SubmissionRefused(400, "bad_request", "`images` must be a list of the ids of uploaded images.")
    return Submission(conversation, str(model), prompt, tuple(images))


@dataclass
class Conversation:
    """The owner of a conversation, the digests of its prompts so far, and its answer in progress.

    `next_shapes` are those that an earlier prompt asked for the prompts to come.
    """

    account: str
    digests: list[str] = field(default_factory=list)
    next_shapes: list[Shape] = field(default_factory=list)
    running: Run | None = None


@dataclass
class Run:
    """One answer in progress."""

    entry: Entry
    shape: Shape
    tokens: list[str]
    _stopped: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    _stall_over: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def stopped(self) -> bool:
        """Return whether the answer is to end early."""
        return self._stopped.done()

    def stop(self) -> None:
        """End the answer early; any number of calls do the same."""
        if not self.stopped:
            self._stopped.set_result(None)

    def end_stall(self) -> None:
        """Go on after a stall that has no end of its own, now or when it comes to it."""
        if not self._stall_over.done():
            self._stall_over.set_result(None)

    async def pause(self, seconds: float) -> None:
        """Sleep for `seconds`, or until stop() is called; `inf` also ends with end_stall()."""
        if seconds == inf:
            await asyncio.wait({self._stopped, self._stall_over}, return_when=asyncio.FIRST_COMPLETED)
        elif seconds > 0:
            await asyncio.wait({self._stopped}, timeout=seconds)
        else:
            await asyncio.sleep(0)  # a long answer without pauses must not starve other connections


class Chat:
    """All conversations and the answers in progress."""

    def __init__(self, ledger: Ledger, faults: Faults, images: Images) -> None:
        self._ledger = ledger
        self._images = images
        self._faults = faults
        self._conversations: dict[str, Conversation] = {}

    def submit(self, session: Session, submission: Submission, transport: Transport) -> Run:
        """Record a submission and return its answer, not yet started.

        Raise SubmissionRefused if the conversation or an image belongs to another account, or if the conversation
        has an answer in progress.
        """
        if submission.conversation not in self._conversations and len(self._conversations) >= MAX_CONVERSATIONS:
            idle = (key for key, value in self._conversations.items() if value.running is None)
            self._conversations.pop(next(idle, ""), None)
        conversation = self._conversations.setdefault(submission.conversation, Conversation(session.account))
        if conversation.account != session.account:
            raise SubmissionRefused(404, "not_found", "No such conversation.")
        if conversation.running:
            raise SubmissionRefused(409, "conflict", "This conversation already has an answer in progress.")
        try:
            images = self._images.find(session.account, submission.images)
        except KeyError:
            raise SubmissionRefused(404, "not_found", "No such image.") from None
        entry = self._ledger.start(
            account=session.account,
            conversation=submission.conversation,
            transport=transport,
            model=submission.model,
            prompt=submission.prompt,
            images=images,
        )
        planned = conversation.next_shapes.pop(0) if conversation.next_shapes else read_directives(submission.prompt)
        conversation.next_shapes += read_next(submission.prompt)
        shape = self._faults.apply(session.account, planned)
        conversation.running = Run(entry, shape, compose(entry, shape, conversation.digests))
        conversation.digests.append(entry.prompt_sha256)
        return conversation.running

    def stop(self, account: str, conversation_id: object) -> bool:
        """Stop the answer in progress in the account's conversation. Return whether there was one."""
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
        """Stop every answer in progress."""
        for conversation in self._conversations.values():
            if conversation.running:
                conversation.running.stop()

    async def answer(self, run: Run, send: Send) -> None:
        """Send the answer event by event, then close its ledger entry.

        `send` raises ConnectionError once the client has disconnected; the ledger entry then ends as `left`.
        Raise DropConnection if a fault asks to close the connection.
        """
        outcome: Outcome = "left"
        try:
            outcome = await self._send_steps(run, send)
        except DropConnection:
            outcome = "error"
            raise
        finally:
            self._end(run, outcome)

    def fail(self, run: Run) -> None:
        """Close the ledger entry of a submission that gets no answer."""
        run.entry.error = run.shape.error
        self._end(run, "error")

    def _end(self, run: Run, outcome: Outcome) -> None:
        self._conversations[run.entry.conversation].running = None
        self._ledger.end(run.entry, outcome)

    async def _send_steps(self, run: Run, send: Send) -> Outcome:
        await send({"type": "start", "id": run.entry.id, "conversation": run.entry.conversation})
        for step in steps(run.shape, run.tokens):
            if run.stopped:
                break
            match step:
                case Wait(seconds):
                    await run.pause(seconds)
                case SendText(text, kind):
                    run.entry.pieces += [text] if kind == "token" else []
                    await send({"type": kind, "text": text})
                case Busy(milliseconds):
                    await send({"type": "busy", "ms": milliseconds})
                case Crash():
                    await send({"type": "crash"})
                case Fail(code):
                    run.entry.error = code
                    await send(error_event(code, FAILURES[code]))
                    return "error"
                case Drop():
                    raise DropConnection
        if run.stopped:
            await send({"type": "stopped"})
            return "stopped"
        await send({"type": "done"})
        return "done"


def encode(event: Event) -> str:
    """Return the event as compact JSON."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))
