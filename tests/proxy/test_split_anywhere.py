"""Where a message is cut on the wire changes nothing: every row is sent in two pieces, cut at every byte."""

from __future__ import annotations

import pytest

from tests.peers import Reparser
from tests.proxy.corpus import checks
from tests.proxy.corpus.loopback import Mesh
from tests.proxy.corpus.requests import ACCEPTED_REQUESTS, MALFORMED_REQUESTS, AcceptedRequest, MalformedRequest
from tests.proxy.corpus.responses import BAD_RESPONSES, GOOD_RESPONSES, BadResponse, GoodResponse, Outcome
from tests.proxy.corpus.wire import Ending, read_answers

# HTTP/1 cannot tell bytes that come later from the answer to a request that was sent meanwhile: cuts just behind a
# whole response, where another client may get the connection in between, say nothing.
SMALL = 300  # bytes; larger rows differ from smaller ones in size alone


def _id(row: AcceptedRequest | MalformedRequest | GoodResponse | BadResponse) -> str:
    return row.name


def _is_whole(row: BadResponse, at: int) -> bool:
    return bool(read_answers(row.wire[:at], [row.method], Ending.OPEN).complete)


@pytest.mark.parametrize("row", [row for row in ACCEPTED_REQUESTS if len(row.wire) < SMALL], ids=_id)
def test_an_accepted_request_arrives_as_it_was(mesh: Mesh, go: Reparser, row: AcceptedRequest) -> None:
    said = checks.in_two_pieces_everywhere(mesh.address, row.wire, row.method)
    assert [conversation.statuses for conversation in said] == [[200]] * len(said)
    arrived = [request for record in mesh.upstream.take() for request in checks.arrived_once(record, go)]
    assert len(arrived) == len(said)
    sent = checks.parse(row.wire)
    for request in arrived:
        assert (request.method, request.target, request.body) == (row.method, row.target, row.body)
        assert checks.end_to_end(request) == checks.end_to_end(sent)
        assert request.trailers == sent.trailers


@pytest.mark.parametrize("row", [row for row in MALFORMED_REQUESTS if len(row.wire) < SMALL], ids=_id)
def test_a_malformed_request_is_refused(mesh: Mesh, row: MalformedRequest) -> None:
    # Two CRLF more, because some faults show only when a head that looks unfinished goes on.
    said = checks.in_two_pieces_everywhere(mesh.address, row.wire + b"\r\n\r\n", b"GET")
    received = mesh.upstream.take()
    assert not any(record.requests for record in received), received
    statuses = {status for conversation in said for status in conversation.statuses}
    assert statuses <= set(row.statuses), said
    assert all(len(conversation.statuses) == 1 for conversation in said), said


@pytest.mark.parametrize("row", [row for row in GOOD_RESPONSES if len(row.wire) < SMALL], ids=_id)
def test_a_good_response_reaches_the_client_as_it_was(mesh: Mesh, row: GoodResponse) -> None:
    wires = [checks.request_for(row, "good", str(at)) for at in range(1, len(row.wire))]
    for said in checks.all_at_once(mesh.address, [*wires, checks.request_for(row, "good", "all")], row.method):
        checks.came_out_whole(said, row)
    mesh.upstream.take()


@pytest.mark.parametrize("row", [row for row in BAD_RESPONSES if 0 < len(row.wire) < SMALL and not row.late], ids=_id)
def test_a_bad_response_never_looks_whole(mesh: Mesh, row: BadResponse) -> None:
    wires = [checks.request_for(row, "bad", str(at)) for at in range(1, len(row.wire)) if not _is_whole(row, at)]
    for said in checks.all_at_once(mesh.address, [*wires, checks.request_for(row, "bad", "all")], row.method):
        if row.outcome is Outcome.ITS_OWN_PART:
            assert [(a.status, a.body) for a in said.answers] == [(row.status, row.body)], said
        else:
            assert {answer.status for answer in said.complete} <= {502}, said
    assert not any(record.requests_after_bad for record in mesh.upstream.take())
