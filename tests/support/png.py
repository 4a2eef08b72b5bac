"""PNG files made and read without a library: https://www.w3.org/TR/png-3/."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 6: 4}


@dataclass(frozen=True)
class Picture:
    """A decoded PNG: its size, and how many different bytes its lines hold, filters included."""

    width: int
    height: int
    variety: int


def decode(data: bytes) -> Picture:
    """Read a PNG of 8 bits a channel; every chunk's checksum and the number of pixels must be right."""
    assert data.startswith(SIGNATURE)
    chunks = list(_chunks(data[len(SIGNATURE) :]))
    assert [chunks[0][0], chunks[-1][0]] == [b"IHDR", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, rest) == (8, [0, 0, 0])
    pixels = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))
    assert len(pixels) == height * (1 + width * _CHANNELS[colour])
    return Picture(width, height, len(set(pixels)))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        (length,) = struct.unpack_from(">I", data)
        kind, body, (checksum,) = data[4:8], data[8 : 8 + length], struct.unpack_from(">I", data, 8 + length)
        assert zlib.crc32(kind + body) == checksum
        yield kind, body
        data = data[12 + length :]


def make(width: int, height: int, colour: tuple[int, int, int] = (200, 40, 40)) -> bytes:
    """A PNG of one colour, 8 bits a channel."""
    line = b"\0" + bytes(colour) * width
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(line * height)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
