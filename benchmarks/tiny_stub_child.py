"""A stub child of 3 MB that starts in 15 ms, so that a thousand fit on a small machine.

Run it by `python -I -S`. It implements what the coordinator needs of the child API, answers with constant JSON, and
returns at `/count` how often it was probed. It imports built-in modules only: importing asyncio alone would take longer
than everything else it does.

With `--served-by PATH` before the child's flags it hands its listener to the process at this Unix socket, which answers
for it as long as it lives. That process is this program with `--serve PATH`: the answers of all children come out of
the same caches, so that the number of children changes the coordinator's own work alone.
"""

from __future__ import annotations

import os
import select
import sys
from _socket import AF_UNIX, MSG_DONTWAIT, SCM_RIGHTS, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, socket

PROGRAM = (sys.executable, "-I", "-S", __file__)
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
    """One child's listener, the answer of its `/ready`, and how often that was asked for."""

    def __init__(self, listener: socket, ready: bytes) -> None:
        self.listener, self.ready, self.probes = listener, ready, 0
        self.connections: set[int] = set()

    def answer(self, head: bytes) -> bytes:
        """Return the response to a request with this head."""
        if head.startswith(b"GET /ready"):
            self.probes += 1
            return self.ready
        return json_response(b"%d" % self.probes) if head.startswith(b"GET /count") else ANSWER


class Server:
    """Answers for children: their listeners, the connections to them, and the bytes received so far on each."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self.children: dict[int, Child] = {}
        self.open: dict[int, tuple[socket, bytes, Child]] = {}
        self.handed: dict[int, tuple[socket, Child]] = {}
        """By the connection over which a child has handed its listener."""
        self.hands: socket | None = None

    def add(self, child: Child) -> None:
        """Answer for this child."""
        self.children[child.listener.fileno()] = child
        self.poll.register(child.listener.fileno(), select.EPOLLIN)

    def take_children(self, path: str) -> None:
        """Answer for all children that hand their listeners to this Unix socket."""
        self.hands = socket(AF_UNIX, SOCK_STREAM)
        self.hands.bind(path)
        self.hands.listen(128)
        self.poll.register(self.hands.fileno(), select.EPOLLIN)

    def serve_forever(self) -> None:
        """Accept and answer until the process is killed."""
        while True:
            for descriptor, _ in self.poll.poll():
                if descriptor in self.open:
                    self.read(descriptor)
                elif descriptor in self.children:
                    self.accept(self.children[descriptor])
                elif self.hands and descriptor == self.hands.fileno():
                    self.take(_accepted(self.hands))
                elif descriptor in self.handed:
                    self.drop(descriptor)

    def accept(self, child: Child) -> None:
        """Accept one connection."""
        connection = _accepted(child.listener)
        self.open[connection.fileno()] = connection, b"", child
        child.connections.add(connection.fileno())
        self.poll.register(connection.fileno(), select.EPOLLIN)

    def take(self, connection: socket) -> None:
        """Take the listener that a child hands over; it says nothing else until its end."""
        ready, parts, _, _ = connection.recvmsg(4096, 256)
        child = Child(socket(fileno=int.from_bytes(parts[0][2][:4], sys.byteorder)), ready)
        self.handed[connection.fileno()] = connection, child
        self.poll.register(connection.fileno(), select.EPOLLIN)
        self.add(child)

    def drop(self, descriptor: int) -> None:
        """Close all that is of a child that has ended."""
        connection, child = self.handed.pop(descriptor)
        for one in tuple(child.connections):
            self.close(one)
        del self.children[child.listener.fileno()]
        child.listener.close()
        connection.close()  # this also removes it from epoll

    def close(self, descriptor: int) -> None:
        """Close one connection."""
        connection, _, child = self.open.pop(descriptor)
        child.connections.remove(descriptor)
        connection.close()

    def read(self, descriptor: int) -> None:
        """Read what a connection has, and answer if the request is complete."""
        connection, received, child = self.open[descriptor]
        try:
            data = connection.recv(65536, MSG_DONTWAIT)
        except BlockingIOError:  # the event was for a connection of the same number that is closed
            return
        except OSError:
            data = b""
        if not data:
            self.close(descriptor)
            return
        received += data
        head, found, body = received.partition(b"\r\n\r\n")
        _, has_length, value = head.lower().partition(b"content-length:")
        if found and len(body) >= (int(value.partition(b"\r\n")[0]) if has_length else 0):
            connection.sendall(child.answer(head))
            received = b""
        self.open[descriptor] = connection, received, child


def _accepted(listener: socket) -> socket:
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - socket.accept() itself needs the module socket
    return socket(fileno=descriptor)


def _value(flag: str) -> str:
    return sys.argv[sys.argv.index(flag) + 1]


def _own_child() -> Child:
    number = int(_value("--active-auth-json").rpartition("/")[2].partition(".")[0])
    models = f'"bench", "{SUBSET_MODEL}"' if number < SUBSET else '"bench"'
    ready = b'{"status": "ready", "models": [%b], "fresh": true, "instance_id": "%b"}' % (
        models.encode(),
        os.environ.get("TABFLEET_INSTANCE_ID", "").encode(),
    )
    listener = socket()
    listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(_value("--server-port"))))
    listener.listen(128)
    return Child(listener, json_response(ready))


def _hand_over(child: Child, path: str) -> None:
    connection = socket(AF_UNIX, SOCK_STREAM)
    connection.connect(path)
    descriptor = child.listener.fileno().to_bytes(4, sys.byteorder)
    connection.sendmsg([child.ready], [(SOL_SOCKET, SCM_RIGHTS, descriptor)])
    connection.recv(1)  # until the end of either


if __name__ == "__main__":
    server = Server()
    if sys.argv[1] == "--serve":
        from resource import RLIMIT_NOFILE, getrlimit, setrlimit

        setrlimit(RLIMIT_NOFILE, (getrlimit(RLIMIT_NOFILE)[1],) * 2)
        server.take_children(sys.argv[2])
    elif "--served-by" in sys.argv:
        _hand_over(_own_child(), _value("--served-by"))
        sys.exit()
    else:
        server.add(_own_child())
    server.serve_forever()
