"""Bytes both ways without looking at them: ports that are not HTTP, and connections after an upgrade."""

from __future__ import annotations

from collections.abc import Callable

from nodeagent.proxy.stream import BULK_READ_BYTES, Stream


class Relay:
    """Two directions with a half-close each.  `on_end(client_bytes, upstream_bytes)` is called once.

    The end is when both sides have said so and all their bytes were taken; a reset of one side resets the other.
    """

    __slots__ = ("_on_end", "_sides", "ended")

    def __init__(self, client: Stream, upstream: Stream, on_end: Callable[[int, int], None]) -> None:
        self._on_end = on_end
        self.ended = False
        first, second = Side(self, client), Side(self, upstream)
        first.peer, second.peer = second, first
        self._sides: tuple[Side, ...] = (first, second)
        for side in self._sides:
            side.paused = side.peer.stream.backed_up
            side.stream.protocol = side
            side.stream.read_bytes = BULK_READ_BYTES

    @property
    def moved(self) -> int:
        """Bytes received so far, of both sides: what a sweep for stalled connections looks at."""
        return sum([side.received for side in self._sides])

    def start(self, from_client: bytes, from_upstream: bytes) -> None:
        """Pass on what was read before, then let both sides flow."""
        client, upstream = self._sides
        if from_client:
            client.data_received(from_client)
        if from_upstream:
            upstream.data_received(from_upstream)
        for side in self._sides:
            if side.paused:
                side.stream.pause_reading()
            else:
                side.stream.resume_reading()

    def maybe_finish(self) -> None:
        if all(side.eof and not side.stream.unsent for side in self._sides):
            self.finish(abort=False)

    def finish(self, abort: bool) -> None:
        if self.ended:
            return
        self.ended = True
        client, upstream = self._sides
        for side in self._sides:
            side.stream.abort() if abort else side.stream.discard()
        self._break_cycles()(client.received, upstream.received)

    def _break_cycles(self) -> Callable[[int, int], None]:
        """Nothing is to be left to the garbage collector.  Returns who is to be told."""
        on_end, self._on_end = self._on_end, _told
        for side in self._sides:
            del side.peer
        self._sides = ()
        return on_end


def _told(_client_bytes: int, _upstream_bytes: int) -> None:
    """The end comes once."""


class Side:
    """Reads one stream into the other."""

    __slots__ = ("eof", "paused", "peer", "received", "relay", "stream")

    peer: Side

    def __init__(self, relay: Relay, stream: Stream) -> None:
        self.relay = relay
        self.stream = stream
        self.received = 0
        self.paused = False
        self.eof = False

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.peer.stream.write(data)

    def eof_received(self) -> None:
        self.eof = True
        self.peer.stream.write_eof()
        if self.peer.eof:
            self._when_taken()

    def _when_taken(self) -> None:
        """Both sides are over; the last bytes may still be on their way to a slow reader."""
        self.relay.maybe_finish()
        if not self.relay.ended:
            for side in (self, self.peer):
                if side.stream.unsent:
                    side.stream.tell_when_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        self.relay.finish(abort=exc is not None)

    def write_failed(self, _error: OSError) -> None:
        self.relay.finish(abort=True)

    def peer_gone(self) -> None:
        """Nothing more can be sent to it; what it sent is read when the other side takes it."""
        if not self.paused:
            self.relay.maybe_finish()

    def pause_writing(self) -> None:
        """This stream holds enough: stop reading the other."""
        self.peer.paused = True
        self.peer.stream.pause_reading()

    def resume_writing(self) -> None:
        self.peer.paused = False
        if not self.peer.eof:
            self.peer.stream.resume_reading()
        else:
            self.relay.maybe_finish()
