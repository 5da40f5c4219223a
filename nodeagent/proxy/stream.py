"""A lean transport: one non-blocking socket on the loop, reads handed up, writes sent at once.

asyncio's own transport ends both directions at the first write error, hides how many bytes it holds and cannot
end with a reset; a proxy needs all three, and connections are made so often that its set-up cost shows.
Callbacks to the protocol (all from the loop, never from inside a call on the stream):

    data_received(bytes)   eof_received()   connection_lost(error)   pause_writing()   resume_writing()
    write_failed(error)    the peer takes no more; what it sent can still be read
    peer_gone()            a reset, or both directions over, seen while reading is paused

`connection_lost` comes for read errors, and with a Bug: who closes a stream knows it.  pause_writing and
resume_writing are the exception to the rule above: pause_writing comes from inside `write`.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import Protocol

from nodeagent.proxy.budgets import LAST_READ_BYTES, READ_BYTES, Budget
from nodeagent.proxy.data_loop import DataLoop
from nodeagent.proxy.lane import READ, WRITE, Lane

BULK_READ_BYTES = 256 * 1024
_RESET = struct.pack("ii", 1, 0)


class Bug(Exception):  # noqa: N818 - what it is
    """What a protocol raised, as it is told to itself: not what its socket met, though it may be an OSError too."""


class StreamProtocol(Protocol):
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def write_failed(self, error: OSError) -> None: ...
    def peer_gone(self) -> None: ...


class _Nobody:
    """The protocol of a closed stream.  Nothing comes any more; who still writes is not told."""

    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def write_failed(self, error: OSError) -> None: ...
    def peer_gone(self) -> None: ...


NOBODY = _Nobody()


class Stream:
    """The socket of one side of a connection.  Reading starts with `start`.

    Once started it stays with the lane until it is closed, also while nothing is asked for: resets come unasked.
    """

    __slots__ = (
        "_budget",
        "_ending",
        "_events",
        "_fd",
        "_high",
        "_lane",
        "_loop",
        "_out",
        "_quiet",
        "_send",
        "_watched",
        "_worker",
        "_writable",
        "backed_up",
        "closed",
        "protocol",
        "read_bytes",
        "sock",
    )

    def __init__(
        self, loop: DataLoop, lane: Lane, sock: socket.socket, protocol: StreamProtocol, budget: Budget, high: int
    ) -> None:
        self._loop = loop
        self._lane = lane
        self._events = 0  # what we ask the lane for
        self._watched = False
        self._quiet: select.poll | None = None
        self.sock = sock
        self._fd = sock.fileno()
        self._send = sock.send
        self.protocol = protocol
        self._budget = budget
        self._worker = budget.root
        self._high = high  # bytes unsent before the writer is asked to pause
        self._out: bytearray | None = None
        self._ending = False
        self.backed_up = False  # the writer was asked to pause, and not to resume yet
        self._writable = True
        self.closed = False
        self.read_bytes = READ_BYTES

    # ---- the lane ----

    def _watch(self, events: int) -> None:
        self._events = events
        if self._watched:
            self._lane.change(self._fd, events)
        elif events:
            self._watched = True
            self._lane.watch(self._fd, events, self._ready)

    def _unwatch(self) -> None:
        self._events = 0
        if self._watched:
            self._watched = False
            self._lane.unwatch(self._fd)

    def _ready(self, events: int) -> None:
        """From the lane; errors and hang-ups come unasked, and are found out by reading or writing."""
        asked, protocol = self._events, self.protocol
        try:
            if events & ~READ and asked & WRITE:
                self._write_ready()
            if events & ~WRITE and self._events & READ:
                self._read_ready()
            elif events & ~(READ | WRITE) and not asked and self._watched:
                self._unwatch()  # it would be reported again and again
                self.protocol.peer_gone()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            self._loop.call_exception_handler({"message": "a connection met a bug and is ended", "exception": error})
            self.abort()
            protocol.connection_lost(Bug(error))

    # ---- reading ----

    def start(self) -> None:
        self.resume_reading()

    def pause_reading(self) -> None:
        if self._events & READ:
            self._watch(self._events & ~READ)

    def resume_reading(self) -> None:
        if not self._events & READ and not self.closed:
            self._watch(self._events | READ)

    def _read_ready(self) -> None:
        try:
            data = self.sock.recv(self.read_bytes if not self._worker.full else LAST_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            protocol = self.protocol
            self._drop()
            protocol.connection_lost(error)
            return
        if data:
            self.protocol.data_received(data)
        else:
            self.pause_reading()
            self.protocol.eof_received()

    @property
    def is_quiet(self) -> bool:
        """True when an idle connection has neither bytes nor an end waiting to be read.

        poll() and not a peek: what would block costs an exception there, a microsecond a request.
        """
        if self._quiet is None:
            self._quiet = select.poll()
            self._quiet.register(self._fd, select.POLLIN | select.POLLRDHUP)
        return not self._quiet.poll(0)

    # ---- writing ----

    @property
    def unsent(self) -> int:
        return len(self._out) if self._out is not None else 0

    def write(self, data: bytes) -> None:
        """Send or hold; after an error or `write_eof` the bytes are dropped."""
        if self._out is not None:
            self._hold(data)
            return
        if not self._writable or self._ending:
            return
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._fail_writing(error)
            return
        if sent != len(data):
            self._out = bytearray()
            self._watch(self._events | WRITE)
            self._hold(memoryview(data)[sent:])

    def _hold(self, data: bytes | memoryview) -> None:
        assert self._out is not None
        if self._ending:
            return
        self._out += data
        budget = self._budget
        budget.add(len(data))
        if not self.backed_up and (len(self._out) > self._high or budget.exhausted):
            self.backed_up = True
            self.protocol.pause_writing()

    def _write_ready(self) -> None:
        out = self._out
        if out is None:
            return
        try:
            with memoryview(out) as view:
                sent = self._send(view[:BULK_READ_BYTES])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail_writing(error)
            return
        del out[:sent]
        self._budget.add(-sent)
        if not out:
            self._drained()
        elif self.backed_up and len(out) <= self._high // 4 and not self._budget.exhausted:
            self._resume_writer()

    def _drained(self) -> None:
        self._out = None
        self._watch(self._events & ~WRITE)
        if self._ending:
            self._shutdown()
        self._resume_writer()

    def tell_when_drained(self) -> None:
        """`resume_writing` comes once nothing is unsent, though the writer was not asked to pause."""
        self.backed_up = True

    def _resume_writer(self) -> None:
        if self.backed_up:
            self.backed_up = False
            self.protocol.resume_writing()

    def _fail_writing(self, error: OSError) -> None:
        self._forget_output()
        self._writable = False
        self._loop.call_soon(self._report_failure, error)

    def _report_failure(self, error: OSError) -> None:
        if not self.closed:
            self._resume_writer()
            self.protocol.write_failed(error)

    def _forget_output(self) -> None:
        if self._out is not None:
            self._budget.add(-len(self._out))
            self._out = None
            self._watch(self._events & ~WRITE)

    # ---- ending ----

    def write_eof(self) -> None:
        """Half-close: FIN after what is unsent."""
        if not self._ending and self._writable:
            self._ending = True
            if self._out is None:
                self._shutdown()

    def _shutdown(self) -> None:
        with contextlib.suppress(OSError):  # the peer is gone: reading will say so
            self.sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Reset: the peer can tell this from a clean end (RFC 9112 8)."""
        if not self.closed:
            reset_on_close(self.sock)
            self._drop()

    def discard(self) -> None:
        """Close at once.  What is unsent is dropped, and then the peer must see a reset and no end."""
        if self._out is not None:
            self.abort()
        else:
            self._drop()

    def _drop(self) -> None:
        if not self.closed:
            self.closed = True
            self.protocol = NOBODY  # they refer to each other, and would be left to the garbage collector
            self._writable = False
            if self._out is not None:
                self._budget.add(-len(self._out))
                self._out = None
            self._unwatch()
            self.sock.close()


def reset_on_close(sock: socket.socket) -> None:
    """Make the coming close() send RST instead of FIN."""
    with contextlib.suppress(OSError):  # already reset by the peer
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
