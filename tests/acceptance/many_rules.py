"""The speed of traffic policies: what a whole request costs the worker where its Service has many rules.

Two Services of one agent, of 10 and of 5,000 rules, a third each of exact paths, prefixes and header values, as in
bench.curves.  wrk asks one after the other; the worker's own time is that of its thread (/proc/PID/schedstat),
system calls included, and nothing of what waits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance import crowd, in_force
from tests.acceptance import shop as shops
from tests.acceptance.deaths import worker_pids
from tests.acceptance.shop import HERE, Shop
from tests.testbed import manifests
from tests.testbed.manifests import Document

PER_ROUTE = 16  # rules, the most that an HTTPRoute may have
KINDS = 3
REQUESTS = 10_000  # of one list
READY_SECONDS = 60.0
SCRIPT = HERE / "many_rules.lua"


@dataclass(frozen=True)
class Cost:
    """Processor time of the worker per request, microseconds: the least of all rounds."""

    few: float
    again: float  # the same as `few`, asked after `many`
    many: float
    requests: int
    failed: int

    @property
    def ratio(self) -> float:
        return self.many / min(self.few, self.again)

    @property
    def control(self) -> float:
        return self.again / self.few


def match(number: int) -> Document:
    """Of rule `number`; what `request` asks for with the same number is for it, and for no other rule."""
    if number % KINDS == 0:
        return {"path": {"type": "Exact", "value": f"/api/items/{number}"}}
    if number % KINDS == 1:
        return {"path": {"type": "PathPrefix", "value": f"/services/{number}"}}
    return {"headers": [{"name": "x-tenant", "value": str(number)}]}


def request(number: int) -> str:
    """A line for many_rules.lua."""
    if number % KINDS == 0:
        return f"/api/items/{number} -"
    return f"/services/{number}/x -" if number % KINDS == 1 else f"/elsewhere/x {number}"


def routes(service: str, count: int) -> Iterator[Document]:
    backends = [manifests.backend(service, 1)]
    rules = [{"matches": [match(number)], "backendRefs": backends} for number in range(count)]
    for start in range(0, count, PER_ROUTE):
        part = rules[start : start + PER_ROUTE]
        yield manifests.http_route("shop", f"{service}-{start:05}", service, part)


def drawn(count: int, dice: random.Random, *, evenly: bool) -> list[str]:
    """Requests for each kind of rule alike; of a kind the n-th rule gets 1/n as many as the first, or as many."""
    kinds = [dice.sample(numbers, len(numbers)) for kind in range(KINDS) if (numbers := range(kind, count, KINDS))]
    weights = [[1.0 if evenly else 1 / rank for rank in range(1, len(kind) + 1)] for kind in kinds]
    turns = (dice.randrange(len(kinds)) for _ in range(REQUESTS))
    return [request(dice.choices(kinds[kind], weights[kind])[0]) for kind in turns]


class Stand:
    """Services `few` and `many` of one shop, and the lists of requests to them."""

    def __init__(self, shop: Shop, sizes: Sequence[int], seed: int, *, evenly: bool) -> None:
        self._shop = shop
        self._vips = {size: crowd.VIP + 1 + place for place, size in enumerate(sizes)}
        self._lists: dict[int, Path] = {}
        documents: list[Document] = []
        for size, vip in self._vips.items():
            self._lists[size] = shop.bed.home / f"requests-{size}"
            self._lists[size].write_text("\n".join(drawn(size, random.Random(seed), evenly=evenly)) + "\n")
            documents += shops.service(shop.bed, vip, f"rules-{size}", [shop.v1], target=crowd.PORT)
            documents += routes(f"rules-{size}", size)
        in_force.apply(shop, lambda: shop.bed.manifests.write("70-rules.yaml", *documents), READY_SECONDS)
        [self._worker] = worker_pids(shop)

    def ask(self, size: int, seconds: int) -> tuple[float, int, int]:
        """(microseconds of the worker per request, requests, failures)."""
        before = self._used()
        argv = ["wrk", "-t1", "-c16", f"-d{seconds}s", "-s", str(SCRIPT), self._shop.url(self._vips[size])]
        said = self._shop.bed.run(self._shop.web, [*argv, "--", str(self._lists[size])], timeout=seconds + 20).stdout
        [line] = [line for line in said.splitlines() if line.startswith("result ")]
        count, failed = map(int, line.split()[1:])
        return (self._used() - before) / 1000 / count, count, failed

    def _used(self) -> int:
        """Nanoseconds on a processor."""
        return int(Path(f"/proc/{self._worker}/schedstat").read_text().split()[0])


def cost(shop: Shop, few: int, many: int, seed: int, *, evenly: bool, rounds: int = 7, seconds: int = 2) -> Cost:
    """Both in turns, so that a busy machine disturbs both; the first round is for the caches."""
    stand = Stand(shop, (few, many), seed, evenly=evenly)
    asked = [[stand.ask(size, seconds) for size in (few, many, few)] for _ in range(rounds + 1)][1:]
    first, second, third = (min(row[place][0] for row in asked) for place in range(3))
    answers = [one for row in asked for one in row]
    return Cost(first, third, second, sum(count for _, count, _ in answers), sum(failed for _, _, failed in answers))
