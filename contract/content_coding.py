"""Compressed request bodies, decompressed in bounded pieces.

Codings: https://www.rfc-editor.org/rfc/rfc9110#section-8.4.1
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from contract.api_error import ApiError, ErrorCode, bad_request

PIECE_BYTES: Final = 256 * 1024
"""Of what comes out at once, in less than a millisecond."""

_WINDOW_BITS: Final[Mapping[str, int]] = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""zlib's names for these formats."""


def decoder_of(coding: str | None) -> Decoder | None:
    """Return what decodes a body with this Content-Encoding, None for one as it is. Raises ApiError (415)."""
    name = (coding or "identity").strip().lower()
    if name == "identity":
        return None
    if name not in _WINDOW_BITS:
        message = "Send the body with Content-Encoding: gzip or deflate, or as it is."
        raise ApiError(ErrorCode.UNSUPPORTED_MEDIA_TYPE, message, headers={"accept-encoding": "gzip, deflate"})
    return Decoder(name)


class Decoder:
    """Decodes one body. No piece of it is made before it is asked for, so that the caller's limits hold."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inflate = zlib.decompressobj(_WINDOW_BITS[name])

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what more data decodes to, up to PIECE_BYTES at a time. Raises ApiError (400)."""
        piece = b""
        # What did not fit into a full piece is still inside, even when all the data went in.
        while data or (len(piece) == PIECE_BYTES and not self._inflate.eof):
            if self._inflate.eof:
                raise self._bad("has something after its end")
            try:
                piece = self._inflate.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise self._bad("is no such thing") from None
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            if piece:
                yield piece

    def finish(self) -> None:
        """Raise ApiError (400) unless the body has come to its end."""
        if not self._inflate.eof:
            raise self._bad("ends too early")

    def _bad(self, what: str) -> ApiError:
        return bad_request(f"The body, sent as Content-Encoding: {self._name}, {what}.")
