"""What must hold for each row of the tables, judged from outside: a client's and an upstream's view of a proxy.

`address` is where the client dials, `upstream` what the proxy forwards to; nothing else of the proxy is used, so the
same checks run against a worker on loopback and against a whole node.  They raise AssertionError with the evidence.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

import h11

from tests.peers import GoRequest, Reparser
from tests.proxy.corpus.paths import Evasion, Trick, is_admin
from tests.proxy.corpus.requests import AcceptedRequest, MalformedRequest, TolerableRequest
from tests.proxy.corpus.responses import BadResponse, GoodResponse, Outcome
from tests.proxy.corpus.upstreams import GAP, LATE, Received, RecordingUpstream, Request
from tests.proxy.corpus.wire import QUIET, Address, Answer, Client, Conversation, Ending, exchange, get

Pieces = Sequence[bytes]

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade expect host content-length".split()
)
"""Not compared between client and upstream: of one hop, or compared by what they mean (host, body)."""

# What any server reads in one way only: the strictest grammar of a head, bytes as received.
_STRICT_HEAD = re.compile(
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[\t -~\x80-\xff]*\r\n)*\r\n"
)


def malformed_request_is_refused(
    address: Address, upstream: RecordingUpstream, row: MalformedRequest, pieces: Pieces | None = None
) -> None:
    """One answer of the right code, a close, nothing (or nothing whole) upstream, and the next client is served."""
    upstream.take()
    follower = get(b"/after/" + row.name.encode())
    said = exchange(address, [*(pieces or [row.wire]), follower])
    _was_refused(said, row.statuses)
    received = upstream.take()
    if row.in_body:
        assert not any(record.requests for record in received), f"the upstream saw a complete request: {received}"
        assert _soon(upstream.all_are_idle), "the upstream's connection hangs in the middle of a request"
    else:
        assert not received, f"the upstream saw {received}"
    assert not any(b"/after/" in record.raw for record in received), f"what followed went upstream: {received}"
    next_request_is_served(address, upstream, row.name.encode())


def _was_refused(said: Conversation, statuses: Sequence[int]) -> None:
    assert len(said.answers) == 1, f"expected one answer of {statuses}: {said}"
    assert said.answers[0].status in statuses, f"expected {statuses}: {said}"
    assert said.answers[0].is_complete, said
    assert said.answers[0].header(b"x-mesh-reason"), f"no reason given: {said}"
    assert not said.junk, said
    assert said.ending is Ending.CLOSED, f"the connection must end after the answer, without losing it: {said}"


def next_request_is_served(address: Address, upstream: RecordingUpstream, name: bytes) -> None:
    """A new client gets its own answer, and the upstream its request once."""
    target = b"/next/" + name
    said = exchange(address, [get(target)], answers=1)
    _is_plain_answer(said.answers, target)
    received = upstream.take()
    assert [request.target for record in received for request in record.requests] == [target], received


def _is_plain_answer(answers: list[Answer], target: bytes, method: bytes = b"GET") -> None:
    assert [(a.status, a.body, a.is_complete) for a in answers] == [(200, method + b" " + target, True)], answers


def _soon(holds: Callable[[], bool], patience: float = 3.0) -> bool:
    deadline = time.monotonic() + patience
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def bad_response_is_contained(
    address: Address, upstream: RecordingUpstream, row: BadResponse, pipelined: bool = False, split: str = ""
) -> None:
    """The outcome of the row, and whatever comes next on the connection is answered by itself."""
    upstream.take()
    target = b"/next/" + row.name.encode()
    client = Client(address)
    try:
        client.send([request_for(row, "bad", split) + (get(target) if pipelined else b"")], row.method)
        said = client.read(2 if pipelined else 1)
        _came_out_as(said, row)
        if not pipelined and said.ending is Ending.OPEN:
            time.sleep(2 * LATE if row.late else 0)
            client.send([get(target)])
            said = client.read(2)
        assert not said.junk or said.ending is not Ending.OPEN, said
        if len(said.answers) > 1:
            _is_plain_answer(said.answers[1:], target)
        elif said.ending is Ending.OPEN:
            raise AssertionError(f"the second request was neither answered nor its connection closed: {said}")
    finally:
        client.close()
    assert _soon(lambda: upstream.is_ended(row.name)), "the upstream connection with a bad response is still open"
    received = upstream.take()
    assert not any(record.requests_after_bad for record in received), f"it was used again: {received}"
    next_request_is_served(address, upstream, row.name.encode())


def request_for(row: BadResponse | GoodResponse, kind: str, split: str = "") -> bytes:
    """The request that makes the upstream answer with this row, in one piece or `split`."""
    version = row.version if isinstance(row, BadResponse) else b"HTTP/1.1"
    length = b"Content-Length: 0\r\n" if row.method == b"POST" else b""
    pieces = b"X-Split: " + split.encode() + b"\r\n" if split else b""
    line = b"%b /%b/%b %b\r\nHost: shop\r\n" % (row.method, kind.encode(), row.name.encode(), version)
    return line + length + pieces + b"\r\n"


def good_response_is_passed_on(address: Address, upstream: RecordingUpstream, row: GoodResponse) -> None:
    """The client reads what was sent, and then the answer to its next request."""
    client = Client(address)
    try:
        client.send([request_for(row, "good"), get(b"/next")], row.method)
        said = client.read(2)
    finally:
        client.close()
    came_out_whole(said, row)
    _is_plain_answer(said.answers[1:], b"/next")
    upstream.take()


def came_out_whole(said: Conversation, row: GoodResponse) -> None:
    assert not said.junk, said
    answer = said.answers[0]
    assert (answer.status, answer.body, answer.is_complete) == (row.status, row.body, True), said
    assert answer.trailers == row.trailers, said
    assert tuple(said.interim) == row.interim, said


def _came_out_as(said: Conversation, row: BadResponse) -> None:
    first = said.answers[0] if said.answers else None
    if row.outcome is Outcome.BAD_GATEWAY:
        assert first is not None, said
        assert (first.status, first.is_complete) == (502, True), said
        assert first.header(b"x-mesh-reason"), said
    elif row.outcome is Outcome.ITS_OWN_PART:
        assert first is not None, said
        assert (first.status, first.body, first.is_complete) == (row.status, row.body, True), said
    elif first is not None and first.status != 502:
        assert not first.is_complete, f"a broken response looks whole: {said}"
        assert said.ending is not Ending.OPEN, f"the client is left waiting: {said}"
    elif first is None:
        assert said.ending is not Ending.OPEN, f"the client is left waiting: {said}"


def accepted_request_arrives_as_it_was(
    address: Address,
    upstream: RecordingUpstream,
    go: Reparser,
    row: AcceptedRequest,
    pieces: Pieces | None = None,
) -> None:
    """One answer; upstream one request that h11, net/http and the strictest grammar read as what was sent."""
    upstream.take()
    said = exchange(address, pieces or [row.wire], row.method, answers=1)
    assert said.statuses == [200], said
    [record] = upstream.take()
    [request] = arrived_once(record, go)
    assert (request.method, request.target, request.body) == (row.method, row.target, row.body), request
    if row.host:
        assert request.values(b"host") == [row.host], request
    sent = parse(row.wire)
    assert end_to_end(request) == end_to_end(sent), "end-to-end fields changed"
    assert request.trailers == sent.trailers, "trailers changed"


def tolerable_request_has_one_reading(
    address: Address, upstream: RecordingUpstream, go: Reparser, row: TolerableRequest
) -> None:
    """Refused as malformed requests are, or forwarded as the one thing it can mean."""
    upstream.take()
    said = exchange(address, [row.wire], row.method, answers=1)
    assert len(said.answers) == 1, said
    received = upstream.take()
    if said.answers[0].status != 200:
        assert said.answers[0].status in (400, 417, 421, 501), said
        assert not any(record.requests for record in received), received
    else:
        [request] = arrived_once(received[0], go)
        assert (request.method, request.target, request.body) == (row.method, row.target, row.body), request
        assert len(request.values(b"host")) == 1, request
    next_request_is_served(address, upstream, row.name.encode())


def arrived_once(record: Received, go: Reparser) -> list[Request]:
    """The requests of a connection by h11, after net/http and the strict grammar agreed about them."""
    raw = bytes(record.raw)
    assert not record.error, f"h11: {record.error}: {raw!r}"
    theirs, error = go.parse(raw)
    assert not error, f"net/http: {error}: {raw!r}"
    assert len(theirs) == len(record.requests), f"h11 and net/http count differently: {raw!r}"
    for ours, other in zip(record.requests, theirs, strict=True):
        _agree(ours, other)
    assert _STRICT_HEAD.match(raw), f"the head needs a lenient reader: {raw!r}"
    return record.requests


def _agree(ours: Request, other: GoRequest) -> None:
    assert (other.method, other.target) == (ours.method.decode(), ours.target.decode()), (ours, other)
    assert other.body == ours.body, (ours, other)
    assert [other.host] == [value.decode() for value in ours.values(b"host")], (ours, other)
    assert _grouped(end_to_end(ours)) == _go_fields(other), (ours, other)


def _go_fields(request: GoRequest) -> dict[str, list[str]]:
    """Field lines by lower-case name."""
    skipped = {name.decode() for name in HOP_BY_HOP}
    return {key.lower(): value for key, value in request.headers.items() if key.lower() not in skipped}


def _grouped(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, value in fields:
        groups.setdefault(name.decode(), []).append(value.decode("latin-1"))
    return groups


def end_to_end(request: Request) -> list[tuple[bytes, bytes]]:
    """The fields meant for the server itself, in order, names in lower case."""
    named = {token.strip().lower() for value in request.values(b"connection") for token in value.split(b",")}
    return [field for field in request.headers if field[0] not in HOP_BY_HOP | named]


def parse(wire: bytes) -> Request:
    """A request as h11 reads it, whole."""
    reader = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reader.receive_data(wire.removeprefix(b"\r\n"))
    start = reader.next_event()
    assert isinstance(start, h11.Request), start
    body = b""
    while isinstance(event := reader.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    return Request(start.method, start.target, tuple(start.headers), body, tuple(event.headers))


def evasion_fails(address: Address, upstream: RecordingUpstream, row: Evasion, exact: bool) -> None:
    """Under a DENY of /admin (`exact`: of that path alone) no application upstream is asked for /admin."""
    upstream.take()
    said = exchange(address, [b"GET " + row.target + b" HTTP/1.1\r\nHost: shop\r\n\r\n"], answers=1)
    seen = [request.target for record in upstream.take() for request in record.requests]
    assert not any(is_admin(target, exact) for target in seen), f"{row.target!r} passed the DENY as {seen}"
    assert len(said.answers) == 1, said
    assert said.answers[0].status in row.statuses(exact), said
    assert bool(seen) == (said.answers[0].status == 200), (said, seen)


def trick_fails(
    address: Address, upstream: RecordingUpstream, row: Trick, is_forbidden: Callable[[Request], bool]
) -> None:
    """A DENY rule that the request meets is not passed, however it is written."""
    upstream.take()
    said = exchange(address, [row.wire], answers=1)
    seen = [request for record in upstream.take() for request in record.requests]
    assert not any(is_forbidden(request) for request in seen), f"passed the DENY: {seen}"
    assert len(said.answers) == 1, said
    assert said.answers[0].status in row.statuses, said
    assert bool(seen) == (said.answers[0].status == 200), (said, seen)


def nothing_more_is_said(client: Client) -> None:
    """A keep-alive connection stays silent after its answers."""
    before = client.raw
    client.read(patience=QUIET)
    assert client.raw == before, f"bytes that answer no request: {client.raw[len(before) :]!r}"


def in_two_pieces_everywhere(address: Address, wire: bytes, method: bytes) -> list[Conversation]:
    """One connection for each place to cut `wire`, all at once: first all the first pieces, then all the second."""
    clients = [Client(address) for _ in range(1, len(wire))]
    try:
        for at, client in enumerate(clients, 1):
            client.send([wire[:at]], method)
        time.sleep(GAP)
        for at, client in enumerate(clients, 1):
            client.send([wire[at:]])
        return [client.read(1) for client in clients]
    finally:
        for client in clients:
            client.close()


def all_at_once(address: Address, wires: Sequence[bytes], method: bytes) -> list[Conversation]:
    """One connection for each request."""
    clients = [Client(address) for _ in wires]
    try:
        for client, wire in zip(clients, wires, strict=True):
            client.send([wire], method)
        return [client.read(1) for client in clients]
    finally:
        for client in clients:
            client.close()
