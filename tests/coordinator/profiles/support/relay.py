"""A relay between a client and the S3 server, through which tests put faults at an exact request."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORWARD: Final = None
HANG_UP: Final = b""


class Relay:
    """Forwards bytes. `meddle` gets each request's first line and gives FORWARD, HANG_UP or an answer.

    Behind the line is the client, `` by boto3`` or `` by obstore``. It is called in several threads.
    """

    def __init__(self, target: str, meddle: Callable[[str], bytes | None], tls: ssl.SSLContext | None) -> None:
        self._target = (urlsplit(target).hostname or "", urlsplit(target).port or 80)
        self._meddle = meddle
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.requests: list[str] = []
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, word: str) -> int:
        """How many requests had this word in their first line."""
        return sum(word in line for line in self.requests)

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._open)

    def close(self) -> None:
        """End it and all its connections."""
        for connection in (self._listener, *self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            inside = self._tls.wrap_socket(client, server_side=True) if self._tls else client
            with inside, socket.create_connection(self._target) as server:
                threading.Thread(target=_copy, args=(server, inside), daemon=True).start()
                while data := inside.recv(1 << 16):
                    line = data.partition(b"\r\n")[0].decode("latin-1")
                    line += " by boto3" if b"boto" in data.lower() else " by obstore"
                    self.requests.append(line)
                    answer = self._meddle(line)
                    if answer is FORWARD:
                        server.sendall(data)
                    elif answer == HANG_UP:
                        return
                    else:
                        inside.sendall(answer)
                        if b"\r\nConnection: close\r\n" in answer:
                            return


@contextmanager
def relay(
    target: str, meddle: Callable[[str], bytes | None] = lambda _line: FORWARD, *, tls: ssl.SSLContext | None = None
) -> Iterator[Relay]:
    """Run a relay to the server at the address `target`."""
    running = Relay(target, meddle, tls)
    try:
        yield running
    finally:
        running.close()


def error_answer(status: int, code: str) -> bytes:
    """An error of S3 as it goes over the wire."""
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>AKIASECRETINMESSAGE</Message></Error>'.encode()
    head = f"HTTP/1.1 {status} Error\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Forward until the source ends or breaks; either ends the sink too."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
