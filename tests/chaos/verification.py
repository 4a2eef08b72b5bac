"""Compare what the clients received with the ledger of submissions."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    """How a request ended for its client."""

    TEXT = "text"  # a complete answer, to be compared with the ledger
    REFUSED = "refused with a proper error"
    IMPROPER = "improper"  # neither a complete answer nor a proper error
    LEFT = "left by the client"
    HUNG = "hung"


@dataclass(frozen=True)
class Result:
    """One request as its client saw it. `text` is the answer, or what went wrong."""

    prompt: str
    ending: Ending
    text: str = ""


@dataclass(frozen=True)
class Submission:
    """A ledger entry: the digest of a prompt that reached a page, and the only right answer to this submission."""

    digest: str
    token: str
    answer: str


@dataclass(frozen=True)
class Findings:
    """The rows of the report that come from requests and ledger."""

    requests: int
    answered: int
    refused: int
    left: int
    wrong: tuple[str, ...]  # one line each
    submitted_twice: tuple[str, ...]
    hung: tuple[str, ...]


def sha256(text: str) -> str:
    """Return the SHA-256 in hex, by which every ledger names a prompt."""
    return hashlib.sha256(text.encode()).hexdigest()


def verify(results: Iterable[Result], submissions: Iterable[Submission]) -> Findings:
    """Compare every answer with the ledger; no two requests have the same prompt."""
    by_digest: defaultdict[str, list[Submission]] = defaultdict(list)
    for submission in submissions:
        by_digest[submission.digest].append(submission)
    all_results = tuple(results)
    count = Counter(result.ending for result in all_results)
    faults = [_wrong(result, by_digest[sha256(result.prompt)]) for result in all_results]
    wrong = tuple(fault for fault in faults if fault is not None)
    texts_wrong = sum(
        1 for result, fault in zip(all_results, faults, strict=True) if fault and result.ending is Ending.TEXT
    )
    return Findings(
        requests=len(all_results),
        answered=count[Ending.TEXT] - texts_wrong,
        refused=count[Ending.REFUSED],
        left=count[Ending.LEFT],
        wrong=wrong,
        submitted_twice=tuple(digest for digest, entries in by_digest.items() if len(entries) > 1),
        hung=tuple(result.text for result in all_results if result.ending is Ending.HUNG),
    )


def _wrong(result: Result, submissions: list[Submission]) -> str | None:
    if result.ending is Ending.IMPROPER:
        return result.text
    if result.ending is not Ending.TEXT or any(result.text == one.answer for one in submissions):
        return None
    known = ", ".join(one.answer[:100] for one in submissions) or "no submission"
    return f"answer {result.text[:100]!r}, but the ledger has: {known}"
