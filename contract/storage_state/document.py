"""From a profile's bytes to a JSON document, as strictly as the browser's driver reads it.

Python's own reader is more lenient: it takes NaN and Infinity, turns 1e999 into infinity (both end
Playwright's driver, which then prints all cookies), and keeps the last of two equal keys.

Nearly every profile is in order, so pydantic's core parses it, in a tenth of the time. What that does not take, or
what it may have changed, is parsed once more by Python's reader with these checks, which says what is wrong.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Final, NoReturn

from pydantic_core import from_json, to_json

from contract.errors import BadProfile
from contract.storage_state.lookalikes import binary_lookalike, json_lookalike, text_lookalike

MAX_PROFILE_BYTES: Final = 16 * 1024 * 1024
TOO_LARGE: Final = f"is larger than the {MAX_PROFILE_BYTES} bytes a profile may have"


def parse_document(data: bytes) -> Any:
    """Return the JSON document in UTF-8 bytes; a byte order mark is allowed. Raises BadProfile."""
    if len(data) > MAX_PROFILE_BYTES:
        raise BadProfile(TOO_LARGE)
    try:
        document = from_json(data, allow_inf_nan=False)
        is_kept_whole = _is_kept_whole(data, to_json(document))
    except ValueError:
        is_kept_whole = False
    if not is_kept_whole:
        document = _parse_strictly(data)
    lookalike = json_lookalike(document)
    if lookalike:
        raise BadProfile(lookalike)
    return document


def _is_kept_whole(data: bytes, written: bytes) -> bool:
    r"""Return whether a document holds all that its text does, given as what is `written` of it.

    Of two equal keys a parser keeps one value, and a number that is too large becomes Infinity. A text has a colon for
    each key, beside those in strings, so that fewer are written where a key was lost; but `\u003a` is written as one.
    """
    return data.count(b":") == written.count(b":") and b"\\u003" not in data and b"Infinity" not in written


def _parse_strictly(data: bytes) -> Any:
    """Return the document as `parse_document`, by Python's reader. Raises BadProfile."""
    text = _decode(data)
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(document, ensure_ascii=False).encode()
    except RecursionError:
        raise BadProfile("is nested too deeply for a storage_state") from None
    except json.JSONDecodeError as error:
        raise BadProfile(text_lookalike(text) or _syntax_error(error)) from None
    except UnicodeEncodeError:
        raise BadProfile("holds half of a surrogate pair (\\ud800 to \\udfff), which browsers replace") from None
    except ValueError:  # int() limits its digits: https://docs.python.org/3/library/stdtypes.html#int-max-str-digits
        raise BadProfile("holds a number with thousands of digits") from None
    return document


def _decode(data: bytes) -> str:
    if not data:
        raise BadProfile("is empty (0 bytes)")
    lookalike = binary_lookalike(data)
    if lookalike:
        raise BadProfile(lookalike)
    if b"\0" in data:
        raise BadProfile("holds NUL bytes: it is binary, damaged or UTF-16")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadProfile(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if not text.strip():
        raise BadProfile("holds nothing but white space")
    return text


def _syntax_error(error: json.JSONDecodeError) -> str:
    where = f"line {error.lineno}, column {error.colno}"
    if error.msg == "Extra data":
        return f"has more text after its JSON value ({where})"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"ends in the middle ({where}); was the upload cut off?"
    return f"is not JSON: {error.msg} ({where})"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (twice, _), *_rest = Counter(key for key, _ in pairs).most_common(1)
        raise BadProfile(f"has the key {twice[:40]!r} twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise BadProfile(f"holds {name}, which JSON does not know")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise BadProfile("holds a number that is too large")
    return number
