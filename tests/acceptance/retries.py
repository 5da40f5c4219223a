"""Acceptance of traffic 3: retries bring requests through, and never a flood to who is failing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from tests.acceptance import in_force
from tests.acceptance.unsteady import Answers, Flaky


@dataclass(frozen=True)
class Failing:
    """`requests` of the client, `seen` by the upstreams."""

    requests: int
    seen: int
    share_ok: float
    reasons: dict[str, int]
    seconds: float

    @property
    def factor(self) -> float:
        return self.seen / self.requests


def some_fail(flaky: Flaky, share: float, percent: int, requests: int) -> Failing:
    """That share of tries fails at random; up to 3 retries."""
    budget = {"percent": percent, "interval": "10s"}
    flaky.policy(retry={"attempts": 3, "backoff": "5ms", "budget": budget})
    flaky.reset()
    return _failing(flaky, flaky.ask(f"/fail?share={share}", requests, "-c", 32))


def all_fail(flaky: Flaky, rate: int, seconds: int) -> Failing:
    """Every try fails; the default budget (20 %, 10 s; 10 retries a second in any case)."""
    flaky.policy(retry={"attempts": 3, "backoff": "5ms"})
    flaky.reset()
    return _failing(flaky, flaky.ask("/fail?share=1", rate * seconds, "-rate", rate))


def _failing(flaky: Flaky, answers: Answers) -> Failing:
    seen = flaky.seen().requests.total()
    seconds = max(row.sent + row.took for row in answers.rows) / 1000
    return Failing(len(answers.rows), seen, answers.share_ok, dict(answers.reasons), seconds)


@dataclass(frozen=True)
class Posts:
    sent: int
    seen_failing: int  # by the upstream, of so many POSTs that it answered 503
    seen_breaking: int  # and of so many whose connections it ended without an answer
    elsewhere: dict[str, int]  # what the client got where one of two endpoints refuses connections
    retries: int  # that this took


def posts(flaky: Flaky, count: int) -> Posts:
    """A POST is sent again only where its bytes were not sent."""
    retry = {"attempts": 3, "backoff": "5ms", "budget": {"percent": 100}}
    flaky.policy(retry=retry)
    seen: list[int] = []
    for path in ("/fail?share=1", "/break?share=1"):
        flaky.reset()
        flaky.ask(path, count, "-c", 4, "-method", "POST", "-body", 100)
        seen.append(flaky.seen().requests.total())
    flaky.end(flaky.shop.v2)
    before = _retries(flaky)
    answers = flaky.ask("/slow?ms=0", count, "-c", 4, "-method", "POST", "-body", 100)
    in_force.wait_until(lambda: _retries(flaky) - before >= count / 4, 3, "a quarter or more was retried")
    return Posts(count, seen[0], seen[1], dict(answers.outcomes), _retries(flaky) - before)


def _retries(flaky: Flaky) -> int:
    return int(flaky.shop.agent.metrics().total("nodeagent_worker_retries"))


@dataclass(frozen=True)
class Waits:
    """ms between a failed try and the next, the least."""

    backoff: int
    retry_after: int
    retries: int


def waits(flaky: Flaky, backoff_ms: int, retry_after_s: int, requests: int) -> Waits:
    retry = {"attempts": 1, "backoff": f"{backoff_ms}ms", "budget": {"percent": 100}}
    flaky.policy(retry=retry)
    gaps = []
    for more in ("", f"&retry-after={retry_after_s}"):
        flaky.reset()
        flaky.ask("/fail?share=1&id={i}" + more, requests, "-c", 16)
        times = flaky.seen().arrivals.values()
        gaps.append([second - first for one in times for first, second in itertools.pairwise(one)])
    return Waits(min(gaps[0]), min(gaps[1]), len(gaps[0]) + len(gaps[1]))
