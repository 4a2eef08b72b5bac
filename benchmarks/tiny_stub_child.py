"""A stub child of 3 MB that starts in 15 ms, so that a thousand fit on a small machine.

Run it by `python -I -S`. It implements what the coordinator needs of the child API, answers with constant JSON, and
returns at `/count` how often it was probed. It imports built-in modules only: importing asyncio alone would take longer
than everything else it does.
"""

from __future__ import annotations

import os
import select
import sys
from _socket import SO_REUSEADDR, SOL_SOCKET, socket

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


def json_response(body: bytes) -> bytes:
    """Return a complete HTTP response."""
    return _HEAD % (len(body), body)


# The first SUBSET children by name also serve SUBSET_MODEL.
SUBSET, SUBSET_MODEL = 10, "subset"
ANSWER = json_response(
    b'{"id": "chatcmpl-bench", "object": "chat.completion", "created": 0, "model": "bench", "choices": [{"index": 0,'
    b' "message": {"role": "assistant", "content": "%b"}, "finish_reason": "stop"}]}' % (b"word " * 100)
)


class Child:
    """A listener, its connections, and the bytes received so far of the request on each."""

    def __init__(self, port: int, models: str) -> None:
        self.ready = json_response(
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
        self.probes = 0

    def serve_forever(self) -> None:
        """Accept and answer until the process is killed."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor == self.listener.fileno():
                    self.accept()
                else:
                    self.read(descriptor)

    def accept(self) -> None:
        """Accept one connection."""
        descriptor, _ = self.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - socket.accept() itself needs the module socket
        self.open[descriptor] = socket(fileno=descriptor), b""
        self.poll.register(descriptor, select.EPOLLIN)

    def read(self, descriptor: int) -> None:
        """Read what a connection has, and answer if the request is complete."""
        connection, received = self.open[descriptor]
        try:
            data = connection.recv(65536)
        except OSError:
            data = b""
        if not data:
            del self.open[descriptor]
            connection.close()  # this also removes it from epoll
            return
        received += data
        head, found, body = received.partition(b"\r\n\r\n")
        _, has_length, value = head.lower().partition(b"content-length:")
        if found and len(body) >= (int(value.partition(b"\r\n")[0]) if has_length else 0):
            connection.sendall(self.answer(head))
            received = b""
        self.open[descriptor] = connection, received

    def answer(self, head: bytes) -> bytes:
        """Return the response to a request with this head."""
        if head.startswith(b"GET /ready"):
            self.probes += 1
            return self.ready
        return json_response(b"%d" % self.probes) if head.startswith(b"GET /count") else ANSWER


if __name__ == "__main__":
    number = int(sys.argv[sys.argv.index("--active-auth-json") + 1].rpartition("/")[2].partition(".")[0])
    models = f'"bench", "{SUBSET_MODEL}"' if number < SUBSET else '"bench"'
    Child(int(sys.argv[sys.argv.index("--server-port") + 1]), models).serve_forever()
