"""A broken response reaches the client as 502 or visibly cut, and its connection carries nothing more."""

from __future__ import annotations

import pytest

from tests.proxy.corpus import checks
from tests.proxy.corpus.loopback import Mesh
from tests.proxy.corpus.responses import BAD_RESPONSES, GOOD_RESPONSES, BadResponse, GoodResponse
from tests.proxy.corpus.wire import Client, get


def _id(row: BadResponse | GoodResponse) -> str:
    return row.name


def test_the_table_has_at_least_30_rows_with_distinct_names() -> None:
    assert len(BAD_RESPONSES) >= 30
    assert len({row.name for row in BAD_RESPONSES}) == len(BAD_RESPONSES)


@pytest.mark.parametrize("row", BAD_RESPONSES, ids=_id)
def test_a_bad_response_is_contained(mesh: Mesh, row: BadResponse) -> None:
    checks.bad_response_is_contained(mesh.address, mesh.upstream, row)


# Not the late ones: once a further request is on its way, no bytes can be told from its answer.
@pytest.mark.parametrize("row", [row for row in BAD_RESPONSES if not row.late], ids=_id)
def test_a_bad_response_is_not_given_to_the_request_pipelined_behind(mesh: Mesh, row: BadResponse) -> None:
    checks.bad_response_is_contained(mesh.address, mesh.upstream, row, pipelined=True)


def test_no_bytes_follow_an_answer_when_its_upstream_keeps_talking(mesh: Mesh) -> None:
    client = Client(mesh.address)
    client.send([get(b"/bad/late-response-after-length")])
    assert client.read(1).statuses == [200]
    checks.nothing_more_is_said(client)
    client.close()
    assert mesh.upstream.take()


@pytest.mark.parametrize("row", GOOD_RESPONSES, ids=_id)
def test_a_good_response_reaches_the_client_as_it_was(mesh: Mesh, row: GoodResponse) -> None:
    checks.good_response_is_passed_on(mesh.address, mesh.upstream, row)
