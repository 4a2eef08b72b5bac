"""What was submitted, what the clients got, and how the two fit."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    """How a request ended for its client."""

    TEXT = "text"  # a complete answer, still to be compared with the ledger
    REFUSED = "refused with a proper error"
    IMPROPER = "improper"  # neither a complete answer nor a proper error
    LEFT = "left by the client"
    HUNG = "hung"


@dataclass(frozen=True)
class Result:
    """One request. `said` is the answer's text, or what went wrong."""

    prompt: str
    ending: Ending
    said: str = ""


@dataclass(frozen=True)
class Submission:
    """One entry of a ledger: a prompt that reached a page, and the only right answer to this submission."""

    digest: str
    token: str
    answer: str


@dataclass(frozen=True)
class Findings:
    """The rows of the table that the requests themselves decide."""

    requests: int
    answered: int
    refused: int
    left: int
    wrong: tuple[str, ...]  # a line for each
    submitted_twice: tuple[str, ...]
    hung: tuple[str, ...]


def sha256(text: str) -> str:
    """As every ledger names a prompt."""
    return hashlib.sha256(text.encode()).hexdigest()


def judge(results: Iterable[Result], submissions: Iterable[Submission]) -> Findings:
    """Hold every answer against the ledger. Each request has a prompt of its own."""
    by_digest: defaultdict[str, list[Submission]] = defaultdict(list)
    for submission in submissions:
        by_digest[submission.digest].append(submission)
    told = tuple(results)
    count = Counter(result.ending for result in told)
    faults = [_wrong(result, by_digest[sha256(result.prompt)]) for result in told]
    wrong = tuple(fault for fault in faults if fault is not None)
    texts_wrong = sum(1 for result, fault in zip(told, faults, strict=True) if fault and result.ending is Ending.TEXT)
    return Findings(
        requests=len(told),
        answered=count[Ending.TEXT] - texts_wrong,
        refused=count[Ending.REFUSED],
        left=count[Ending.LEFT],
        wrong=wrong,
        submitted_twice=tuple(digest for digest, entries in by_digest.items() if len(entries) > 1),
        hung=tuple(result.said for result in told if result.ending is Ending.HUNG),
    )


def _wrong(result: Result, submissions: list[Submission]) -> str | None:
    if result.ending is Ending.IMPROPER:
        return result.said
    if result.ending is not Ending.TEXT or any(result.said == one.answer for one in submissions):
        return None
    known = ", ".join(one.answer[:100] for one in submissions) or "no submission at all"
    return f"answer {result.said[:100]!r}, but the ledger has: {known}"
