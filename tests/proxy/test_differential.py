"""What the upstream received is what the client sent, by three readers: h11, Go's net/http and a strict grammar."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.peers import Reparser
from tests.proxy.corpus import checks, strategies
from tests.proxy.corpus.loopback import Mesh
from tests.proxy.corpus.requests import ACCEPTED_REQUESTS, AcceptedRequest
from tests.proxy.corpus.wire import exchange


def _id(row: AcceptedRequest) -> str:
    return row.name


@pytest.mark.parametrize("row", ACCEPTED_REQUESTS, ids=_id)
def test_an_accepted_request_arrives_as_it_was(mesh: Mesh, go: Reparser, row: AcceptedRequest) -> None:
    checks.accepted_request_arrives_as_it_was(mesh.address, mesh.upstream, go, row)


@pytest.mark.parametrize("row", [row for row in ACCEPTED_REQUESTS if len(row.wire) < 1000], ids=_id)
def test_an_accepted_request_arrives_as_it_was_when_every_byte_comes_alone(
    mesh: Mesh, go: Reparser, row: AcceptedRequest
) -> None:
    pieces = [row.wire[i : i + 1] for i in range(len(row.wire))]
    checks.accepted_request_arrives_as_it_was(mesh.address, mesh.upstream, go, row, pieces)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=strategies.requests(), places=strategies.cuts)
def test_any_valid_request_cut_anywhere_arrives_as_it_was(
    mesh: Mesh, go: Reparser, row: AcceptedRequest, places: list[int]
) -> None:
    checks.accepted_request_arrives_as_it_was(mesh.address, mesh.upstream, go, row, strategies.cut(row.wire, places))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(strategies.requests(), min_size=2, max_size=6), places=strategies.cuts)
def test_pipelined_requests_arrive_each_once_and_are_answered_in_order(
    mesh: Mesh, go: Reparser, rows: list[AcceptedRequest], places: list[int]
) -> None:
    wire = b"".join(row.wire for row in rows)
    said = exchange(mesh.address, strategies.cut(wire, places), *(row.method for row in rows), answers=len(rows))
    expected = [b"" if row.method == b"HEAD" else row.method + b" " + row.target for row in rows]
    assert [answer.body for answer in said.answers] == expected, said
    arrived = [request for record in mesh.upstream.take() for request in checks.arrived_once(record, go)]
    sent = sorted((row.method, row.target, row.body) for row in rows)
    assert sorted((request.method, request.target, request.body) for request in arrived) == sent
