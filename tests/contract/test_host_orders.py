from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.host_orders import (
    ChildOrder,
    End,
    Ended,
    Full,
    Start,
    receive_news,
    receive_order,
    send,
    socket_pair,
)

ORDER = ChildOrder(
    name="a",
    profile=Path("a.json"),
    site="demo",
    run_dir=Path("run"),
    api_port=1,
    generation=2,
    instance_id="i",
    control_token="the-token",
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket_pair()
    with ours, theirs:
        yield ours, theirs


def test_an_order_arrives_with_its_descriptor_which_no_process_inherits(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    read_end, write_end = os.pipe()
    send(ours, Start(start=ORDER), write_end)
    send(ours, End(end="i", how="kill"))
    os.close(write_end)
    received = receive_order(theirs)
    assert received is not None
    order, descriptor = received
    assert order == Start(start=ORDER)
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    os.write(descriptor, b"a line\n")
    assert os.read(read_end, 100) == b"a line\n"
    os.close(descriptor)
    os.close(read_end)
    assert receive_order(theirs) == (End(end="i", how="kill"), None)
    with pytest.raises(BlockingIOError):
        receive_order(theirs)


def test_news_of_a_host_that_died_with_orders_unread_are_still_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    send(theirs, Ended(ended="i", code=3))
    send(theirs, Full())
    send(ours, End(end="j", how="term"))
    theirs.close()
    assert receive_news(ours) == Ended(ended="i", code=3)
    assert receive_news(ours) == Full()
    assert receive_news(ours) is None


def test_a_host_with_news_that_nobody_read_is_told_of_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    send(theirs, Full())
    ours.close()
    assert receive_order(theirs) is None


def test_what_is_no_order_is_refused_without_its_text_and_its_descriptor_is_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    read_end, write_end = os.pipe()
    socket.send_fds(ours, [b'{"start": {"control_token": "the-token"}}'], [write_end])
    os.close(write_end)
    with pytest.raises(ValueError, match="no order") as refused:
        receive_order(theirs)
    assert "the-token" not in str(refused.value)
    assert os.read(read_end, 1) == b""  # nobody holds the other end
    os.close(read_end)


def test_the_token_is_not_shown() -> None:
    assert "the-token" not in repr(Start(start=ORDER))
