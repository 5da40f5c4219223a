"""A client that sends raw bytes and says exactly what came back: which answers, whether whole, how it ended.

Answers are read by h11, so a response that is framed wrongly shows as `junk`, never as an answer.
"""

from __future__ import annotations

import enum
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import h11

Address = tuple[str, int]

PATIENCE = 5.0  # seconds to wait for what must come; long, so that a busy machine is not a failure
QUIET = 0.15  # seconds of silence after which nothing more is expected
_BIG = 16 << 20


class Ending(enum.Enum):
    CLOSED = "closed"
    RESET = "reset"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    is_complete: bool
    trailers: tuple[tuple[bytes, bytes], ...] = ()

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(slots=True)
class Conversation:
    """`answers` are final ones, in order; `interim` the codes of 1xx; `junk` says why reading stopped early."""

    answers: list[Answer] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    junk: str = ""
    ending: Ending = Ending.OPEN

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]

    @property
    def complete(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.is_complete]


def read_answers(raw: bytes, methods: Sequence[bytes], ending: Ending) -> Conversation:
    """Parses what a client received for requests with these methods (further ones count as GET)."""
    result = Conversation(ending=ending)
    rest = raw
    while rest:
        number = len(result.answers)
        rest = _read_one(rest, methods[number] if number < len(methods) else b"GET", result)
    return result


def _read_one(raw: bytes, method: bytes, result: Conversation) -> bytes:
    """Adds one answer to `result`; gives the bytes after it."""
    reader = h11.Connection(h11.CLIENT, max_incomplete_event_size=_BIG)
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(raw)
    if result.ending is Ending.CLOSED:
        reader.receive_data(b"")
    start: h11.Response | None = None
    body = bytearray()
    while True:
        try:
            event = reader.next_event()
        except h11.RemoteProtocolError as error:
            result.junk = str(error)
            event = h11.NEED_DATA
        if isinstance(event, h11.InformationalResponse):
            result.interim.append(event.status_code)
        elif isinstance(event, h11.Response):
            start = event
        elif isinstance(event, h11.Data):
            body += event.data
        else:
            is_complete = isinstance(event, h11.EndOfMessage)
            if start is not None:
                trailers = tuple(event.headers) if isinstance(event, h11.EndOfMessage) else ()
                fields = tuple(start.headers)
                result.answers.append(Answer(start.status_code, fields, bytes(body), is_complete, trailers))
            return reader.trailing_data[0] if is_complete else b""


class Client:
    """One raw connection."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._raw = bytearray()
        self._methods: list[bytes] = []
        self._ending = Ending.OPEN

    def send(self, pieces: Iterable[bytes], *methods: bytes) -> None:
        """Sends each piece by itself.  A peer that refuses early may be gone before the last one: not an error here."""
        self._methods += methods
        for piece in pieces:
            try:
                self._socket.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                return

    def finish_sending(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def read(self, answers: int = 0, patience: float = PATIENCE) -> Conversation:
        """Reads until the peer closes, or until `answers` final answers are whole (0 = until it closes)."""
        deadline = time.monotonic() + patience
        while self._ending is Ending.OPEN:
            now = self.so_far()
            if now.junk or (answers and len(now.complete) >= answers):
                return now
            self._receive(deadline - time.monotonic())
            if time.monotonic() > deadline:
                break
        return self.so_far()

    def so_far(self) -> Conversation:
        return read_answers(bytes(self._raw), self._methods, self._ending)

    @property
    def raw(self) -> bytes:
        return bytes(self._raw)

    def _receive(self, patience: float) -> None:
        self._socket.settimeout(max(patience, 0.001))
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError:
            return
        except ConnectionResetError:
            self._ending = Ending.RESET
            return
        self._raw += data
        if not data:
            self._ending = Ending.CLOSED

    def close(self) -> None:
        self._socket.close()


def exchange(
    address: Address, pieces: Iterable[bytes], *methods: bytes, answers: int = 0, patience: float = PATIENCE
) -> Conversation:
    """Sends `pieces` on a new connection, reads as `Client.read` does, closes."""
    client = Client(address)
    try:
        client.send(pieces, *methods)
        return client.read(answers, patience)
    finally:
        client.close()


def get(target: bytes, host: bytes = b"shop") -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
