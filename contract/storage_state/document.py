"""From a profile's bytes to a JSON document, as strictly as the browser's driver reads it.

Python's own reader is more lenient: it takes NaN and Infinity, turns 1e999 into infinity (both end
Playwright's driver, which then prints all cookies), and keeps the last of two equal keys.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, Final, NoReturn

from contract.errors import BadProfile
from contract.storage_state.lookalikes import binary_lookalike, json_lookalike, text_lookalike

MAX_PROFILE_BYTES: Final = 16 * 1024 * 1024
TOO_LARGE: Final = f"is larger than the {MAX_PROFILE_BYTES} bytes a profile may have"


def parse_document(data: bytes) -> Any:
    """Return the JSON document in UTF-8 bytes; a byte order mark is allowed. Raises BadProfile."""
    if len(data) > MAX_PROFILE_BYTES:
        raise BadProfile(TOO_LARGE)
    text = _decode(data)
    try:
        document = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
        lookalike = json_lookalike(document)
        if lookalike:
            raise BadProfile(lookalike)
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
