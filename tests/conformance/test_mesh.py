"""One test per upstream test, by its short name.

Stricter than the upstream, which polls for up to 30 s until three answers in a row are right: once the agent says that
the routes are in force, each of three requests over IPv4 and three over IPv6 has to be answered right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.conformance.cases import Case, UnmetError, faults
from tests.conformance.client import ask
from tests.conformance.mesh import Mesh
from tests.conformance.suite import TESTS, Test
from tests.testbed import Testbed

TIMES = 3  # in a row, per address family
WEIGHED, TOLERANCE = 2000, 0.05  # requests, and the upstream's tolerance: 4.9 sigma for a share of 0.7
NO_GRPC = "GRPCRoute is not implemented: HTTP/2 is carried as bytes, without rules"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Testbed() as bed:
        yield Mesh(bed)


def _mark(test: Test) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(reason=NO_GRPC, raises=UnmetError, strict=True)] if test.is_grpc else []


@pytest.mark.parametrize("test", [pytest.param(test, id=test.name, marks=_mark(test)) for test in TESTS])
def test_conformance(mesh: Mesh, test: Test) -> None:
    if test.is_grpc:
        mesh.serve_grpc()
        _check_grpc_peer(mesh, test.cases[0])
    mesh.configure(test.routes)
    wrong = [line for case in test.cases for line in _wrong(mesh, case)]
    if test.shares:
        wrong += _wrong_shares(mesh, test)
    if wrong:
        raise UnmetError("\n".join(wrong))


def _check_grpc_peer(mesh: Mesh, case: Case) -> None:
    """Keeps a broken peer from passing for a missing feature: a pod's own address is no matter of routes."""
    direct = replace(case, to="echo-v1.pod:7070", backend="echo-v1", seen=case.sends, unseen=())
    [answer] = ask(mesh, direct)
    if found := faults(direct, answer):
        raise RuntimeError(f"{direct}: {', '.join(found)}")


def _wrong(mesh: Mesh, case: Case) -> Iterator[str]:
    """One line for each address family that is answered wrong."""
    for ipv6 in (False, True):
        for _ in range(TIMES):
            [answer] = ask(mesh, case, ipv6=ipv6)
            if found := faults(case, answer):
                yield f"{case} over {'IPv6' if ipv6 else 'IPv4'}: {', '.join(found)}"
                break


def _wrong_shares(mesh: Mesh, test: Test) -> Iterator[str]:
    answers = ask(mesh, test.cases[0], count=WEIGHED)
    statuses = Counter(answer.status for answer in answers)
    if statuses != {200: WEIGHED}:
        yield f"statuses {dict(statuses)}"
    served = Counter(answer.echo.get("pod", "nobody") for answer in answers)
    if served.keys() - test.shares.keys():
        yield f"served by {dict(served)}"
    for pod, share in test.shares.items():
        got = served[pod] / WEIGHED
        if abs(got - share) > TOLERANCE:
            yield f"{pod} got {got:.1%} of {WEIGHED} requests, not {share:.0%} +- {TOLERANCE:.0%}"
