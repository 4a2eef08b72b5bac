"""Compressed bodies come out as they went in, in bounded pieces, and nothing else is taken for one."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.api_error import ApiError
from contract.content_coding import PIECE_BYTES, decoder_of

ENCODE: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


def decode(coding: str, data: bytes, step: int = 1 << 30) -> list[bytes]:
    decoder = decoder_of(coding)
    assert decoder is not None
    pieces = [piece for at in range(0, len(data), step) for piece in decoder.pieces(data[at : at + step])]
    decoder.finish()
    return pieces


@given(st.sampled_from(list(ENCODE)), st.binary(max_size=3000), st.integers(1, 100))
def test_what_went_in_comes_out_however_it_is_cut(coding: str, data: bytes, step: int) -> None:
    assert b"".join(decode(coding, ENCODE[coding](data), step)) == data


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 40 * PIECE_BYTES])
@pytest.mark.parametrize("step", [100, 1 << 30])
def test_pieces_are_bounded_whatever_they_are_made_of(size: int, step: int) -> None:
    pieces = decode("gzip", gzip.compress(b"\0" * size), step)
    assert b"".join(pieces) == b"\0" * size
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)


@pytest.mark.parametrize("coding", [None, "", "identity", " Identity "])
def test_a_body_without_a_coding_needs_no_decoder(coding: str | None) -> None:
    assert decoder_of(coding or None) is None


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "x"])
def test_other_codings_are_refused_with_the_names_of_those_taken(coding: str) -> None:
    with pytest.raises(ApiError) as raised:
        decoder_of(coding)
    assert raised.value.status == 415
    assert raised.value.headers == {"accept-encoding": "gzip, deflate"}
    assert "gzip or deflate" in raised.value.message


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data * 2,
        lambda data: data[:-6] + b"xxxxxx",
        lambda _: b"{}",
        lambda _: b"",
    ],
)
def test_a_damaged_body_is_refused(coding: str, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ApiError) as raised:
        decode(coding, damage(ENCODE[coding](b"{}" * 1000)))
    assert raised.value.status == 400
    assert coding in raised.value.message
