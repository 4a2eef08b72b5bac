"""One page's end of the stream port: what its hooks deliver, sorted to the answer and to the looks that wait for it."""

from __future__ import annotations

import hmac
from weakref import WeakValueDictionary

from browser.capture.frames import Feed, FrameKind, unpack
from browser.capture.look_channel import LookChannel, Send


class StreamReceiver:
    """Takes what the hooks of one page deliver: those of one origin that know the token; one answer at a time."""

    def __init__(self, *, origin: str, token: str) -> None:
        self.origin = origin
        self._token = token.encode()
        self._feed: Feed | None = None
        self._channels: WeakValueDictionary[bytes, LookChannel] = WeakValueDictionary()

    def has_token(self, token: str) -> bool:
        """Return whether this is the token, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(token.encode(), self._token)

    def open_feed(self, nonce: str) -> Feed:
        """Return a new feed: from here on frames with this nonce go to it, and others are dropped."""
        self._feed = Feed(nonce.encode("ascii"))
        return self._feed

    def close_feed(self, feed: Feed) -> None:
        """Drop the frames of this feed's answer from here on."""
        if self._feed is feed:
            self._feed = None

    def open_channel(self) -> LookChannel:
        """Return a new channel for looks: answers with its nonce go to it for as long as somebody has it."""
        channel = LookChannel()
        self._channels[channel.nonce.encode("ascii")] = channel
        return channel

    def take(self, connection: object, message: bytes, send: Send | None = None) -> None:
        """Take a message of a connection that has shown the token. Raises BadFrame.

        `send` sends text over the connection, if it has that way too.
        """
        if not message and any(asked.take_same(connection) for asked in list(self._channels.values())):
            return
        feed = self._feed
        nonce, sequence, frame = unpack(message)
        if frame.kind is FrameKind.LOOK:
            channel = self._channels.get(nonce)
            if channel and send:
                channel.take(connection, sequence, frame.payload, send)
        elif feed and hmac.compare_digest(nonce, feed.nonce):
            feed.deliver(connection, sequence, frame)

    def closed(self, connection: object) -> None:
        """Note that a connection is gone."""
        if self._feed:
            self._feed.closed(connection)
        for channel in list(self._channels.values()):
            channel.closed(connection)
