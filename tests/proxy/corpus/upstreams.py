"""An upstream that remembers every byte it was sent, per connection, and answers as told.

It answers every request with 200 and its method and target as the body, so that an answer given to the wrong
request shows.  A target `/bad/NAME` or `/good/NAME` gets the row NAME of a table of responses instead; the request
field `X-Split: N` has it sent in two pieces, and `X-Split: all` byte by byte.
"""

from __future__ import annotations

import contextlib
import copy
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

import h11

from tests.proxy.corpus.responses import BAD_RESPONSES, GOOD_RESPONSES, BadResponse, End, GoodResponse
from tests.proxy.corpus.wire import Address

LATE = 0.05  # seconds between a response and the unsolicited bytes after it
GAP = 0.01  # seconds between two pieces of a response
_ROWS: dict[bytes, BadResponse | GoodResponse] = {
    **{b"/bad/" + row.name.encode(): row for row in BAD_RESPONSES},
    **{b"/good/" + row.name.encode(): row for row in GOOD_RESPONSES},
}
_MAX_EVENT = 1 << 20


@dataclass(slots=True)
class Received:
    """One connection: all its bytes, the requests found in them by h11, and what was wrong with them, if anything."""

    raw: bytearray = field(default_factory=bytearray)
    requests: list[Request] = field(default_factory=list)
    error: str = ""
    bad: str = ""  # the name of the bad response that was sent here
    requests_after_bad: int = 0
    is_partial: bool = False
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A complete request as h11 read it; names are lower case."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    trailers: tuple[tuple[bytes, bytes], ...] = ()

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key == name]


class RecordingUpstream:
    """A thread per connection.  Make it inside a network namespace to listen there."""

    def __init__(self, address: Address = ("127.0.0.1", 0)) -> None:
        self._listener = socket.create_server(address, backlog=512)
        self.address: Address = self._listener.getsockname()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._connections: list[Received] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def take(self) -> list[Received]:
        """What came since the last call, on connections that sent anything; those still open start a new record."""
        with self._lock:
            current, self._connections = self._connections, []
            for record in current:
                if not record.is_over:
                    self._connections.append(record)
            taken = [copy.deepcopy(record) for record in current if record.raw or record.error]
            for record in self._connections:
                record.raw.clear()
                record.requests.clear()
        return taken

    def all_are_idle(self) -> bool:
        """No connection is open in the middle of a request."""
        with self._lock:
            return all(record.is_over or not record.is_partial for record in self._connections)

    def is_ended(self, bad: str) -> bool:
        """Every connection on which the bad response of this name was sent is closed."""
        with self._lock:
            return all(record.is_over or record.bad != bad for record in self._connections)

    def drop_connections(self) -> None:
        """Closes all connections, so that the next request needs a new one."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        self._accepting.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            record = Received()
            with self._lock:
                self._connections.append(record)
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection, record), daemon=True).start()

    def _serve(self, connection: socket.socket, record: Received) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._converse(connection, record)
        except OSError as error:
            record.error = record.error or f"{type(error).__name__}: {error}"
        finally:
            with self._lock:
                self._open.discard(connection)
            record.is_over = True
            connection.close()

    def _converse(self, connection: socket.socket, record: Received) -> None:
        reader = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_EVENT)
        while True:
            request = _next_request(reader, connection, record)
            if request is None:
                return
            record.requests.append(request)
            record.requests_after_bad += bool(record.bad)
            row = _ROWS.get(request.target)
            if row is None:
                connection.sendall(_plain_answer(request))
            else:
                if isinstance(row, BadResponse):
                    record.bad = row.name
                _send_split(connection, row.wire, request.values(b"x-split"))
                if not _afterwards(connection, row):
                    return
            if (b"connection", b"close") in request.headers:
                return
            reader = _next_cycle(reader)


def _next_cycle(reader: h11.Connection) -> h11.Connection:
    """A fresh reader that starts at the bytes after the last request."""
    rest, is_closed = reader.trailing_data
    fresh = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_EVENT)
    if rest:
        fresh.receive_data(rest)
    if is_closed:
        fresh.receive_data(b"")
    return fresh


def _next_request(reader: h11.Connection, connection: socket.socket, record: Received) -> Request | None:
    start: h11.Request | None = None
    body = bytearray()
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError as error:
            record.error = str(error)
            return None
        if event is h11.NEED_DATA:
            if reader.they_are_waiting_for_100_continue:
                connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                reader.send(h11.InformationalResponse(status_code=100, headers=[]))
            data = connection.recv(1 << 18)
            record.raw += data
            record.is_partial = bool(data)
            reader.receive_data(data)
        elif isinstance(event, h11.Request):
            start = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert start is not None
            record.is_partial = False
            return Request(start.method, start.target, tuple(start.headers), bytes(body), tuple(event.headers))
        else:
            return None


def _plain_answer(request: Request) -> bytes:
    body = request.method + b" " + request.target
    sent = b"" if request.method == b"HEAD" else body
    return b"HTTP/1.1 200 OK\r\nX-Upstream: 1\r\nContent-Length: %d\r\n\r\n" % len(body) + sent


def _send_split(connection: socket.socket, wire: bytes, split: list[bytes]) -> None:
    if split == [b"all"]:
        for byte in wire:
            connection.sendall(bytes((byte,)))
        return
    at = int(split[0]) if split else len(wire)
    connection.sendall(wire[:at])
    if wire[at:]:
        time.sleep(GAP)
        connection.sendall(wire[at:])


def _afterwards(connection: socket.socket, row: BadResponse | GoodResponse) -> bool:
    """What follows a response of the tables; False when the connection has ended."""
    if isinstance(row, BadResponse) and row.late:
        time.sleep(LATE)
        connection.sendall(row.late)
    if row.end is End.RESET:
        time.sleep(LATE)  # a reset may overtake what was sent: let that arrive first
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return row.end is End.KEEP
