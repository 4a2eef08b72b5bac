"""A child of which a thousand fit on a small machine: a process of 3 MB that starts in 15 ms.

To be run by `python -I -S`. It speaks what the coordinator needs of the contract, answers with constant bytes, and
tells at `/count` how often it was asked whether it is ready. Modules of the interpreter itself only: the usual
ones would take longer to import than the rest takes to run.
"""

from __future__ import annotations

import os
import select
import sys
from _socket import SO_REUSEADDR, SOL_SOCKET, socket

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


def whole(body: bytes) -> bytes:
    return _HEAD % (len(body), body)


CHOSEN, CHOSEN_MODEL = 10, "chosen"  # so many children, the first ones by name, have this model too
ANSWER = whole(
    b'{"id": "chatcmpl-bench", "object": "chat.completion", "created": 0, "model": "bench", "choices": [{"index": 0,'
    b' "message": {"role": "assistant", "content": "%b"}, "finish_reason": "stop"}]}' % (b"word " * 100)
)


class Child:
    """All connections, and what has come of the request on each."""

    def __init__(self, port: int, models: str) -> None:
        self.ready = whole(
            b'{"status": "ready", "models": [%b], "fresh": true, "instance_id": "%b"}'
            % (models.encode(), os.environ.get("TABFLEET_INSTANCE_ID", "").encode())
        )
        self.listener = socket()
        self.listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(128)
        self.poll = select.epoll()
        self.poll.register(self.listener.fileno(), select.EPOLLIN)
        self.open: dict[int, tuple[socket, bytes]] = {}
        self.asked = 0

    def serve_for_ever(self) -> None:
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.listener.fileno():
                    self.accept()
                else:
                    self.read(descriptor)

    def accept(self) -> None:
        descriptor, _ = self.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - socket.accept() is built on it
        self.open[descriptor] = socket(fileno=descriptor), b""
        self.poll.register(descriptor, select.EPOLLIN)

    def read(self, descriptor: int) -> None:
        connection, received = self.open[descriptor]
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            del self.open[descriptor]
            connection.close()  # epoll forgets it by itself
            return
        received += data
        head, found, body = received.partition(b"\r\n\r\n")
        if found and len(body) >= length_of(head):
            connection.sendall(self.answer(head))
            received = b""
        self.open[descriptor] = connection, received

    def answer(self, head: bytes) -> bytes:
        if head.startswith(b"GET /ready"):
            self.asked += 1
            return self.ready
        return whole(b"%d" % self.asked) if head.startswith(b"GET /count") else ANSWER


def length_of(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


if __name__ == "__main__":
    number = int(sys.argv[sys.argv.index("--active-auth-json") + 1].rpartition("/")[2].partition(".")[0])
    offered = f'"bench", "{CHOSEN_MODEL}"' if number < CHOSEN else '"bench"'
    Child(int(sys.argv[sys.argv.index("--server-port") + 1]), offered).serve_for_ever()
