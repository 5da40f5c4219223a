"""No spelling of a path, a host, a header or a method passes a DENY rule that names it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from nodeagent.core.model import HttpOperation, PathKind, ValueMatch
from tests.proxy.corpus import checks, strategies
from tests.proxy.corpus.loopback import Mesh
from tests.proxy.corpus.paths import (
    HEADER_TRICKS,
    HOST_TRICKS,
    METHOD_TRICKS,
    PATH_EVASIONS,
    PATHS_THAT_PASS,
    Evasion,
    Trick,
    is_admin,
)
from tests.proxy.corpus.upstreams import Request
from tests.proxy.corpus.wire import exchange

RULES = {
    "exact": (PathKind.EXACT, "/admin"),
    "prefix": (PathKind.PREFIX, "/admin"),
    "regex": (PathKind.REGEX, "/admin(/.*)?"),
}


def _id(row: Evasion | Trick) -> str:
    return row.name


@pytest.fixture(scope="module", params=list(RULES))
def rule(request: pytest.FixtureRequest, mesh: Mesh) -> str:
    """The name of the rule in force."""
    mesh.deny(HttpOperation(paths=(RULES[request.param],)))
    return str(request.param)


def test_the_table_has_at_least_40_evasions() -> None:
    assert len({row.target for row in PATH_EVASIONS}) == len(PATH_EVASIONS) >= 40


@pytest.mark.parametrize("row", PATH_EVASIONS, ids=_id)
def test_no_spelling_of_a_denied_path_passes(mesh: Mesh, rule: str, row: Evasion) -> None:
    checks.evasion_fails(mesh.address, mesh.upstream, row, exact=rule == "exact")


@pytest.mark.parametrize(("target", "forwarded"), PATHS_THAT_PASS)
def test_a_path_that_is_not_denied_is_forwarded_in_its_normal_form(
    mesh: Mesh, rule: str, target: bytes, forwarded: bytes
) -> None:
    said = exchange(mesh.address, [b"GET " + target + b" HTTP/1.1\r\nHost: shop\r\n\r\n"], answers=1)
    assert said.statuses == [200], said
    assert [request.target for record in mesh.upstream.take() for request in record.requests] == [forwarded]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=strategies.hostile_targets)
def test_no_generated_spelling_of_a_denied_path_passes(mesh: Mesh, rule: str, target: bytes) -> None:
    said = exchange(mesh.address, [b"GET " + target + b" HTTP/1.1\r\nHost: shop\r\n\r\n"], answers=1)
    seen = [request.target for record in mesh.upstream.take() for request in record.requests]
    assert not any(is_admin(forwarded, rule == "exact") for forwarded in seen), (target, seen)
    assert [answer.status for answer in said.answers] in ([200], [400], [403]), said


@pytest.mark.parametrize("pattern", ["admin.shop", "*.shop"])
@pytest.mark.parametrize("row", HOST_TRICKS, ids=_id)
def test_no_spelling_of_a_denied_host_passes(mesh: Mesh, pattern: str, row: Trick) -> None:
    mesh.deny(HttpOperation(hosts=(pattern,)))

    def is_forbidden(request: Request) -> bool:
        return any(b"admin" in value.lower() for value in request.values(b"host"))

    checks.trick_fails(mesh.address, mesh.upstream, row, is_forbidden)


@pytest.mark.parametrize("regex", [False, True], ids=["exact", "regex"])
@pytest.mark.parametrize("row", HEADER_TRICKS, ids=_id)
def test_no_spelling_of_a_denied_header_passes(mesh: Mesh, regex: bool, row: Trick) -> None:
    mesh.deny(HttpOperation(headers=(ValueMatch("x-env", "test", regex),)))

    def is_forbidden(request: Request) -> bool:
        return any(b"test" in value for name in (b"x-env", b"x_env") for value in request.values(name))

    checks.trick_fails(mesh.address, mesh.upstream, row, is_forbidden)


@pytest.mark.parametrize("row", METHOD_TRICKS, ids=_id)
def test_no_spelling_of_a_denied_method_passes(mesh: Mesh, row: Trick) -> None:
    mesh.deny(HttpOperation(methods=("DELETE",)))
    checks.trick_fails(mesh.address, mesh.upstream, row, lambda request: request.method.upper() == b"DELETE")
