"""Acceptance of traffic 9: weights are kept exactly, and changing them costs nobody a request."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass

from tests import peers
from tests.acceptance import in_force
from tests.acceptance.figures import Line, lines
from tests.acceptance.shop import PORT, Shop
from tests.testbed import Pod

CYCLE = ((80, 20), (50, 50), (20, 80), (99, 1))
SETTLED = 0.05  # seconds: a response that was decided before a change may be noted just after it


@dataclass(frozen=True)
class Split:
    """How many of `requests` each backend served, by its own count, and what the client met."""

    v1: int
    v2: int
    requests: int
    not_200: int

    def sigmas(self, share: float) -> float:
        """How far v2 is from its share."""
        return _sigmas(self.v2, self.requests, share)


def over(shop: Shop, weights: tuple[int, int], requests: int) -> Split:
    """Sends so many requests over 8 connections of a Go client."""
    _put_in_force(shop, weights)
    before = _served(shop)
    argv = [str(peers.build("client")), "-url", shop.url(1), "-n", str(requests), "-c", "8"]
    report = json.loads(shop.bed.run(shop.web, argv, timeout=300).stdout)
    after = _served(shop)
    return Split(after[0] - before[0], after[1] - before[1], requests, requests - report["codes"].get("200", 0))


def _put_in_force(shop: Shop, weights: tuple[int, int]) -> None:
    in_force.apply(shop, lambda: shop.bed.manifests.write("30-route.yaml", shop.weights(*weights)))


def _served(shop: Shop) -> tuple[int, int]:
    return _count(shop, shop.v1), _count(shop, shop.v2)


def _count(shop: Shop, pod: Pod) -> int:
    """Asked by a pod that is not enrolled."""
    answer = shop.bed.run(shop.plain, ["curl", "-sS", "-m", "5", f"http://{pod.ipv4}:{PORT}/count"])
    return int(json.loads(answer.stdout)["requests"])


@dataclass(frozen=True)
class Changes:
    made: int
    responses: int
    failed: int  # errors and statuses other than 200
    smallest: int  # responses between two changes
    sigmas: float  # the largest distance of a backend's part, between two changes, from its share


def live(shop: Shop, changes: int, spacing: float) -> Changes:
    """Changes the weights under keep-alive clients that note time and pod of every response."""
    client = shop.program(shop.web, "requester", shop.url(1), changes * (spacing + 0.1) + 3, 4)
    time.sleep(1.0)
    spans = []
    for number in range(changes):
        weights = CYCLE[number % len(CYCLE)]
        _put_in_force(shop, weights)
        start = time.monotonic() + SETTLED
        time.sleep(spacing)
        spans.append((start, time.monotonic(), weights[1] / sum(weights)))
    text, _ = client.communicate(timeout=60)
    return _judge(lines(text), spans)


def _judge(rows: list[Line], spans: list[tuple[float, float, float]]) -> Changes:
    """`spans`: from, to, and the share of v2 in between."""
    served = [[row.pod for row in rows if start <= row.time < end and row.status == "200"] for start, end, _ in spans]
    distances = [
        _sigmas(pods.count("catalog-v2"), len(pods), share) for pods, (_, _, share) in zip(served, spans, strict=True)
    ]
    failed = sum(row.status != "200" for row in rows)
    return Changes(len(spans), len(rows), failed, min(map(len, served)), max(distances))


def _sigmas(count: int, total: int, share: float) -> float:
    """Distance of a binomial count from its mean; infinite without any."""
    return abs(count - total * share) / math.sqrt(total * share * (1 - share)) if total else math.inf
