"""Run one suite of the HTTP/1 tables between two pods; print `{"rows": N, "failed": {ROW: WHY}}`.

    python framing_rows.py SUITE UPSTREAM_NETNS PORT ADDRESS:PORT [--exact]

Runs in the client's pod.  Its upstream listens on PORT in the namespace of another pod: a socket stays in the
namespace in which it was made, so the thread goes there for that moment only.  ADDRESS:PORT is what the client
dials.  The checks are those of the loopback ring; nothing here knows that there is a mesh in between.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings

from nodeagent.kernel import setns
from tests.peers import Reparser
from tests.proxy.corpus import checks, strategies
from tests.proxy.corpus.paths import HEADER_TRICKS, HOST_TRICKS, METHOD_TRICKS, PATH_EVASIONS, PATHS_THAT_PASS, Trick
from tests.proxy.corpus.requests import ACCEPTED_REQUESTS, MALFORMED_REQUESTS, TOLERABLE_REQUESTS, AcceptedRequest
from tests.proxy.corpus.responses import BAD_RESPONSES, GOOD_RESPONSES
from tests.proxy.corpus.upstreams import RecordingUpstream, Request
from tests.proxy.corpus.wire import Address, exchange

SMALL = 1000  # bytes of a message that is also sent byte by byte
CUT_EVERYWHERE = 300  # bytes of a message that is also cut at every place
Case = tuple[str, Callable[[], None]]


@dataclass(frozen=True)
class Between:
    """The two ends, and how the rule in force was said."""

    address: Address
    upstream: RecordingUpstream
    go: Reparser
    exact: bool


def malformed(ends: Between) -> Iterator[Case]:
    """Whole, and byte by byte."""
    refused = functools.partial(checks.malformed_request_is_refused, ends.address, ends.upstream)
    for row in MALFORMED_REQUESTS:
        yield row.name, functools.partial(refused, row)
        if len(row.wire) < SMALL:
            yield f"{row.name} byte by byte", functools.partial(refused, row, _bytes(row.wire))


def responses(ends: Between) -> Iterator[Case]:
    """Bad ones with the next request after them and (unless late) pipelined behind them; and good ones."""
    contained = functools.partial(checks.bad_response_is_contained, ends.address, ends.upstream)
    for row in BAD_RESPONSES:
        yield row.name, functools.partial(contained, row)
        if not row.late:
            yield f"{row.name} pipelined", functools.partial(contained, row, pipelined=True)
    for good in GOOD_RESPONSES:
        passed = functools.partial(checks.good_response_is_passed_on, ends.address, ends.upstream, good)
        yield f"good {good.name}", passed


def accepted(ends: Between) -> Iterator[Case]:
    """Whole, byte by byte, cut at every place, and what hypothesis makes up, cut where it likes."""
    arrives = functools.partial(checks.accepted_request_arrives_as_it_was, ends.address, ends.upstream, ends.go)
    for row in ACCEPTED_REQUESTS:
        yield row.name, functools.partial(arrives, row)
        if len(row.wire) < SMALL:
            yield f"{row.name} byte by byte", functools.partial(arrives, row, _bytes(row.wire))
        if len(row.wire) < CUT_EVERYWHERE:
            yield f"{row.name} cut everywhere", functools.partial(_arrives_cut_everywhere, ends, row)
    for tolerable in TOLERABLE_REQUESTS:
        one = functools.partial(
            checks.tolerable_request_has_one_reading, ends.address, ends.upstream, ends.go, tolerable
        )
        yield f"tolerable {tolerable.name}", one
    yield "made up by hypothesis", functools.partial(_any_valid_request_arrives, ends)


def paths(ends: Between) -> Iterator[Case]:
    """Under a DENY of /admin."""
    for row in PATH_EVASIONS:
        fails = functools.partial(checks.evasion_fails, ends.address, ends.upstream, row, exact=ends.exact)
        yield row.name, fails
    for target, forwarded in PATHS_THAT_PASS:
        yield f"passes {target!r}", functools.partial(_is_forwarded_as, ends, target, forwarded)


def hosts(ends: Between) -> Iterator[Case]:
    """Under a DENY of host admin.shop."""

    def is_forbidden(request: Request) -> bool:
        return any(b"admin" in value.lower() for value in request.values(b"host"))

    yield from _tricks(ends, HOST_TRICKS, is_forbidden)


def headers(ends: Between) -> Iterator[Case]:
    """Under a DENY of x-env: test."""

    def is_forbidden(request: Request) -> bool:
        return any(b"test" in value for name in (b"x-env", b"x_env") for value in request.values(name))

    yield from _tricks(ends, HEADER_TRICKS, is_forbidden)


def methods(ends: Between) -> Iterator[Case]:
    """Under a DENY of DELETE."""
    yield from _tricks(ends, METHOD_TRICKS, lambda request: request.method.upper() == b"DELETE")


SUITES = {suite.__name__: suite for suite in (malformed, responses, accepted, paths, hosts, headers, methods)}


def _tricks(ends: Between, rows: tuple[Trick, ...], is_forbidden: Callable[[Request], bool]) -> Iterator[Case]:
    for row in rows:
        yield row.name, functools.partial(checks.trick_fails, ends.address, ends.upstream, row, is_forbidden)


def _bytes(wire: bytes) -> list[bytes]:
    return [wire[at : at + 1] for at in range(len(wire))]


def _arrives_cut_everywhere(ends: Between, row: AcceptedRequest) -> None:
    ends.upstream.take()
    said = checks.in_two_pieces_everywhere(ends.address, row.wire, row.method)
    assert [conversation.statuses for conversation in said] == [[200]] * len(said)
    arrived = [request for record in ends.upstream.take() for request in checks.arrived_once(record, ends.go)]
    assert len(arrived) == len(said)
    for request in arrived:
        assert (request.method, request.target, request.body) == (row.method, row.target, row.body)


def _any_valid_request_arrives(ends: Between) -> None:
    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(row=strategies.requests(), places=strategies.cuts)
    def arrives(row: AcceptedRequest, places: list[int]) -> None:
        pieces = strategies.cut(row.wire, places)
        checks.accepted_request_arrives_as_it_was(ends.address, ends.upstream, ends.go, row, pieces)

    arrives()


def _is_forwarded_as(ends: Between, target: bytes, forwarded: bytes) -> None:
    ends.upstream.take()
    said = exchange(ends.address, [b"GET " + target + b" HTTP/1.1\r\nHost: shop\r\n\r\n"], answers=1)
    assert said.statuses == [200], said
    assert [request.target for record in ends.upstream.take() for request in record.requests] == [forwarded]


def upstream_in(netns: str, port: int) -> RecordingUpstream:
    home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(netns, os.O_RDONLY)
    try:
        with setns.inside(there, home):
            return RecordingUpstream(("0.0.0.0", port))
    finally:
        os.close(home)
        os.close(there)


def run(cases: Iterator[Case]) -> dict[str, object]:
    rows, failed = 0, {}
    for name, check in cases:
        rows += 1
        try:
            check()
        except (AssertionError, OSError) as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return {"rows": rows, "failed": failed}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("netns")
    parser.add_argument("port", type=int)
    parser.add_argument("address")
    parser.add_argument("--exact", action="store_true")
    options = parser.parse_args()
    host, port = options.address.rsplit(":", 1)
    upstream = upstream_in(options.netns, options.port)
    with Reparser() as go:
        json.dump(run(SUITES[options.suite](Between((host, int(port)), upstream, go, options.exact))), sys.stdout)
    upstream.close()


if __name__ == "__main__":
    main()
