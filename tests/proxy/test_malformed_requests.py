"""A malformed request is refused with the right code and reason, goes nowhere, and ends its connection only."""

from __future__ import annotations

import re

import pytest

from tests.peers import Reparser
from tests.proxy.corpus import checks
from tests.proxy.corpus.loopback import Mesh
from tests.proxy.corpus.requests import (
    MALFORMED_REQUESTS,
    TOLERABLE_REQUESTS,
    AcceptedRequest,
    MalformedRequest,
    TolerableRequest,
)
from tests.proxy.corpus.wire import exchange, get


def _id(row: MalformedRequest | TolerableRequest | AcceptedRequest) -> str:
    return row.name


def test_the_table_has_at_least_60_rows_with_distinct_names_and_a_deciding_section() -> None:
    assert len(MALFORMED_REQUESTS) >= 60
    assert len({row.name for row in MALFORMED_REQUESTS}) == len(MALFORMED_REQUESTS)
    assert all(re.match(r"(9110 |9113 |6585 )?\d", row.section) for row in MALFORMED_REQUESTS)


@pytest.mark.parametrize("row", MALFORMED_REQUESTS, ids=_id)
def test_a_malformed_request_is_refused_and_poisons_nothing(mesh: Mesh, row: MalformedRequest) -> None:
    checks.malformed_request_is_refused(mesh.address, mesh.upstream, row)


@pytest.mark.parametrize("row", [row for row in MALFORMED_REQUESTS if len(row.wire) < 1000], ids=_id)
def test_a_malformed_request_is_refused_byte_by_byte(mesh: Mesh, row: MalformedRequest) -> None:
    pieces = [row.wire[i : i + 1] for i in range(len(row.wire))]
    checks.malformed_request_is_refused(mesh.address, mesh.upstream, row, pieces)


@pytest.mark.parametrize("row", MALFORMED_REQUESTS, ids=_id)
def test_a_malformed_request_after_a_good_one_leaves_the_good_one_answered(mesh: Mesh, row: MalformedRequest) -> None:
    said = exchange(mesh.address, [get(b"/good") + row.wire + get(b"/after")])
    received = mesh.upstream.take()
    assert len(said.answers) == 2, said
    assert (said.answers[0].status, said.answers[0].body) == (200, b"GET /good"), said
    assert said.answers[1].status in row.statuses, said
    assert [request.target for record in received for request in record.requests] == [b"/good"], received


@pytest.mark.parametrize("row", TOLERABLE_REQUESTS, ids=_id)
def test_a_tolerable_request_is_refused_or_forwarded_with_its_one_reading(
    mesh: Mesh, go: Reparser, row: TolerableRequest
) -> None:
    checks.tolerable_request_has_one_reading(mesh.address, mesh.upstream, go, row)
