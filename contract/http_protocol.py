"""One connection of either server: uvicorn's parser and cycle, with limits on what a peer may keep waiting."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_RESET: Final = struct.pack("ii", 1, 0)  # struct linger of socket(7): on, for 0 seconds
_LARGEST_HEAD_BYTES: Final = 64 * 1024


class HttpProtocol(HttpToolsProtocol):
    """Ends heads that go on for ever, and connections whose peer does not read what it is sent.

    A response that its peer holds up gets `write_timeout_s` seconds to go on, which is a lowest rate. What waits for
    the peer after a response is complete, also where the connection closes then, has to shrink in that time. Else the
    connection is reset, and `stalled` is True. `lost` is True once the connection is no more, whoever ended it.
    """

    def __init__(self, *args: Any, write_timeout_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._write_timeout_s = write_timeout_s
        self._head_bytes = 0
        self._in_head = True
        self._unsent_bytes = 0
        self._write_timer: asyncio.TimerHandle | None = None
        self.lost = False
        self.stalled = False

    def abort(self) -> None:
        """Reset the connection at once, whatever is still to be sent on it."""
        # Reset, not closed: else the kernel keeps what a peer never reads, and the peer never learns. That holds
        # for a connection that is being closed, too: its last bytes wait for the peer.
        connection = self.transport.get_extra_info("socket")
        if connection.fileno() != -1:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._stop_write_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # httptools itself has no limit: it collects a header's value for as long as it goes on.
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("Request head too large.")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_writing()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(msg)
        self._watch_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._watch_writing()

    def _watch_writing(self) -> None:
        """Give the peer its time from now on, if anything waits for it."""
        self._stop_write_timer()
        self._unsent_bytes = self.transport.get_write_buffer_size()
        if self._unsent_bytes:
            self._write_timer = self.loop.call_later(self._write_timeout_s, self._look_at_writing)

    def _look_at_writing(self) -> None:
        # A next response that is not held up adds to what waits, so that nothing can be told by its size.
        goes_on = self.cycle is not None and not self.cycle.response_complete
        shrinks = goes_on or self.transport.get_write_buffer_size() < self._unsent_bytes
        if shrinks and not self.flow.write_paused:
            self._watch_writing()
        else:
            self.stalled = True
            self.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
