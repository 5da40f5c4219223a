"""Acceptance of traffic 2: a request ends when its time is over, and its client can tell how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.acceptance import in_force
from tests.acceptance.unsteady import Answers, Flaky

REASON, ABORTED = "request-timeout", "request-timeout-aborted"


@dataclass(frozen=True)
class Ends:
    """`least`, `most`: ms until the client knew; `counted` of the metrics: (answered, aborted)."""

    outcomes: dict[str, int]
    reasons: dict[str, int]
    least: float
    most: float
    counted: tuple[int, int]
    abandoned: int  # connections of upstreams that ended


def before_the_head(flaky: Flaky, request_ms: int, requests: int) -> Ends:
    """The upstream sends its head a byte at a time, all the while."""
    flaky.policy(timeouts={"request": f"{request_ms}ms"})
    return _ends(flaky, lambda: flaky.ask("/trickle", requests, "-c", 8))


def in_the_body(flaky: Flaky, request_ms: int, requests: int, framing: str, minor: int) -> Ends:
    """The upstream stops within its body, whose end is told by `framing`, to a client of HTTP/1.`minor`."""
    flaky.policy(timeouts={"request": f"{request_ms}ms"})
    return _ends(flaky, lambda: flaky.ask(f"/stall?how={framing}", requests, "-c", 4, "-minor", minor))


def _ends(flaky: Flaky, run: Callable[[], Answers]) -> Ends:
    flaky.reset()
    before = _counted(flaky)
    answers = run()
    count = len(answers.rows)
    in_force.wait_until(lambda: sum(_counted(flaky)) - sum(before) >= count, 3, "every request was counted")
    in_force.wait_until(lambda: flaky.seen().abandoned >= count, 3, "every upstream's connection ended")
    after = _counted(flaky)
    counted = after[0] - before[0], after[1] - before[1]
    return Ends(dict(answers.outcomes), dict(answers.reasons), *answers.times, counted, flaky.seen().abandoned)


def _counted(flaky: Flaky) -> tuple[int, int]:
    return flaky.counted(reason=REASON), flaky.counted(reason=ABORTED)


def without_end(flaky: Flaky, request_ms: int) -> Answers:
    """Requests three times as long as the policy allows, by a route's rule that says `0s`."""
    flaky.policy(timeouts={"request": f"{request_ms}ms"})
    return flaky.ask(f"/-free/slow?ms={3 * request_ms}", 8, "-c", 4)


@dataclass(frozen=True)
class Tries:
    outcomes: dict[str, int]
    reasons: dict[str, int]
    least: float
    most: float
    fewest: int  # tries of one request, by the upstream's count
    latest: int  # ms from a request's first try to its last


def within_the_requests_time(flaky: Flaky, request_ms: int, try_ms: int, requests: int) -> Tries:
    """No try is ever answered; the policy would make five more."""
    budget = {"minRetryRate": {"count": 10_000}}
    retry = {"attempts": 5, "backoff": "10ms", "perTryTimeout": f"{try_ms}ms", "budget": budget}
    flaky.policy(timeouts={"request": f"{request_ms}ms"}, retry=retry)
    flaky.reset()
    answers = flaky.ask("/hang?id={i}", requests, "-c", 4)
    arrivals = flaky.seen().arrivals.values()
    assert len(arrivals) == requests
    return Tries(
        dict(answers.outcomes),
        dict(answers.reasons),
        *answers.times,
        min(len(one) for one in arrivals),
        max(one[-1] - one[0] for one in arrivals),
    )
