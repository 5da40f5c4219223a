"""Acceptance 3: how soon a change of configuration is in force, and that it costs nobody a request."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.acceptance import shop as shops
from tests.acceptance.figures import Line, lines
from tests.acceptance.shop import Shop

Predicate = Callable[[Line], bool]


@dataclass(frozen=True)
class Change:
    """A change of one file, and what every response looks like once it is in force."""

    apply: Callable[[Shop], object]
    conforms: Predicate


def _served_by(pod: str) -> Predicate:
    return lambda line: line.status == "200" and line.pod == pod


CYCLE = (
    Change(lambda shop: shop.bed.manifests.write("30-route.yaml", shop.weights(100, 0)), _served_by("catalog-v1")),
    Change(
        lambda shop: shop.bed.manifests.write("40-deny.yaml", shops.deny("no-web", "catalog", "web")),
        lambda line: line.status == "403",
    ),
    Change(lambda shop: shop.bed.manifests.remove("40-deny.yaml"), _served_by("catalog-v1")),
    Change(lambda shop: shop.bed.manifests.write("30-route.yaml", shop.weights(0, 100)), _served_by("catalog-v2")),
)


@dataclass(frozen=True)
class Result:
    latencies: list[float]  # seconds from the rename to the first conforming response
    stragglers: int  # responses after that one, before the next change, that do not conform
    failed: int  # errors and statuses other than 200 and 403
    responses: int


def run(shop: Shop, changes: int, spacing: float) -> Result:
    """Makes `changes` changes, `spacing` seconds apart, under wrk and two keep-alive clients that note the time."""
    seconds = changes * spacing + 3
    wrk = shop.bed.popen(
        shop.web, ["wrk", "-t1", "-c8", f"-d{int(seconds)}s", shop.url(1)], stdout=subprocess.PIPE, text=True
    )
    client = shop.program(shop.web, "requester", shop.url(1), seconds, 2, "--interval", 0.001)
    time.sleep(1.0)
    made: list[tuple[float, Change]] = []
    for number in range(changes):
        change = CYCLE[number % len(CYCLE)]
        made.append((time.monotonic(), change))
        change.apply(shop)
        time.sleep(spacing)
    text, _ = client.communicate(timeout=60)
    said, _ = wrk.communicate(timeout=60)
    assert "Socket errors" not in said, said
    return judge(lines(text), made)


def judge(rows: list[Line], made: list[tuple[float, Change]]) -> Result:
    latencies, stragglers = [], 0
    ends = [at for at, _ in made[1:]] + [float("inf")]
    for (at, change), end in zip(made, ends, strict=True):
        window = [row for row in rows if at <= row.time < end]
        first = next((index for index, row in enumerate(window) if change.conforms(row)), None)
        if first is None:
            latencies.append(float("inf"))
            continue
        latencies.append(window[first].time - at)
        # Two clients: a response that was decided before the change may be printed just after the first new one.
        settled = window[first].time + 0.05
        stragglers += sum(1 for row in window[first:] if row.time > settled and not change.conforms(row))
    failed = sum(1 for row in rows if row.status not in ("200", "403"))
    return Result(latencies, stragglers, failed, len(rows))


@dataclass(frozen=True)
class Drained:
    opened: int
    seen_ended: int
    counted: int
    seconds: float  # from the rename to the last end


def first_rule_drains(shop: Shop, count: int) -> Drained:
    """Rung 1 -> 3: `count` direct connections to `raw`, then its first authorization rule."""
    before = shop.agent.metrics().total("nodeagent_connections_drained_total")
    holder = shop.program(shop.web, "holder", shop.bed.vip(5), 80, count, 4)
    assert holder.stdout is not None
    assert holder.stdout.readline() == f"held {count}\n"
    start = time.monotonic()
    rule = shops.deny("no-delete", "raw", "web", http={"methods": ["DELETE"]})
    shop.bed.manifests.write("50-raw.yaml", rule)
    rest, _ = holder.communicate(timeout=30)
    ended = [float(row.split()[0]) for row in rest.splitlines() if not row.startswith("alive")]
    counted = 0.0
    while counted < count and time.monotonic() < start + 1.0:  # the count follows the ends, within the same second
        counted = shop.agent.metrics().total("nodeagent_connections_drained_total") - before
    return Drained(count, len(ended), int(counted), max(ended, default=float("inf")) - start)
