"""What one decision costs as the configuration grows: `python -m bench.curves`.

Nothing but `Judge.decide`, on one processor, without sockets; no root needed.  A figure is processor time in ns
per decision: that of making a request head and deciding, less that of making the head.  A worker too decides about
heads that it has just made.  The least of many rounds counts; the sizes of one curve take turns, so that a busy
machine disturbs all alike, and each goes through its requests once before it is timed.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from nodeagent.core.judge import Judge
from nodeagent.core.matching import precedence
from nodeagent.core.model import (
    Action,
    Backend,
    Destination,
    Endpoint,
    EnforcementLevel,
    HttpOperation,
    PathKind,
    Policy,
    PolicyRule,
    Protocol,
    RequestHead,
    Rule,
    Source,
    ValueMatch,
    Workload,
)
from nodeagent.proxy.view import View
from nodeagent.regex import compile_regex

REQUESTS, ROUNDS = 10_000, 15
KINDS = 3  # of rules in a mixed configuration
FIRST = 50  # decisions after a change that are timed one by one

MakeHead = Callable[[int], RequestHead]
Request = tuple[Workload, str, int, float]  # caller, its address, what to make the head from, a random number
Pairs = tuple[tuple[str, str], ...]

WEB = Workload("shop", "web-1", "web", "web", ("10.0.0.1",))
USUAL: Pairs = (("host", "cart"), ("user-agent", "curl/8.5.0"), ("accept", "*/*"))


@dataclass(frozen=True, slots=True)
class Load:
    judge: Judge
    make_head: MakeHead
    requests: Sequence[Request]


@dataclass(frozen=True, slots=True)
class Curve:
    title: str
    sizes: tuple[int, ...]
    load: Callable[[int, random.Random], Load]


# ---- configurations ----


def _endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(f"10.{number >> 8}.{number & 255}.9", 8080) for number in range(count))


def _cart(rules: Iterable[Rule], policies: tuple[Policy, ...] = ()) -> Destination:
    ordered = sorted(rules, key=lambda rule: precedence(rule, "", int(rule.rule), 0))
    return Destination(
        "shop/cart:80",
        "198.18.0.1",
        80,
        Protocol.HTTP1,
        is_frontend=True,
        endpoints=_endpoints(3),
        producer_rules=tuple(ordered),
        has_producer_route=True,
        policies=policies,
    )


def _rule(number: int, kind: PathKind, path: str, headers: Pairs = (), endpoints: int = 3) -> Rule:
    backend = Backend(f"shop/cart-{number}:80", 1, _endpoints(endpoints))
    matches = tuple(ValueMatch(name, value) for name, value in headers)
    return Rule("shop/cart", str(number), kind, path, "", matches, (), (backend,))


def _mixed(number: int) -> Rule:
    """Exact paths, prefixes, and one header value each on the path that all share."""
    if number % 3 == 0:
        return _rule(number, PathKind.EXACT, f"/api/items/{number}")
    if number % 3 == 1:
        return _rule(number, PathKind.PREFIX, f"/services/{number}")
    return _rule(number, PathKind.PREFIX, "/", (("x-tenant", str(number)),))


def _head(path: str, *more: tuple[str, str]) -> RequestHead:
    return RequestHead("GET", path, "", "cart", (*USUAL, *more))


def _for_mixed(number: int) -> RequestHead:
    if number % 3 == 0:
        return _head(f"/api/items/{number}")
    if number % 3 == 1:
        return _head(f"/services/{number}/x")
    return _head("/elsewhere/x", ("x-tenant", str(number)))


# ---- loads ----


def _load(
    rules: Iterable[Rule],
    make_head: MakeHead,
    numbers: Iterable[int],
    dice: random.Random,
    callers: Sequence[Workload] = (WEB,),
    policies: tuple[Policy, ...] = (),
) -> Load:
    chosen = [(dice.choice(callers), number) for number in numbers]
    requests = [(caller, caller.addresses[0], number, dice.random()) for caller, number in chosen]
    return Load(Judge(_cart(rules, policies), compile_regex), make_head, requests)


def _by_rules(count: int, dice: random.Random) -> Load:
    """A third for each kind; of a kind few rules take most requests (the n-th takes 1/n), as is usual."""
    kinds = [dice.sample(numbers, len(numbers)) for kind in range(KINDS) if (numbers := range(kind, count, KINDS))]
    chosen = (dice.choices(kind, [1 / rank for rank in range(1, len(kind) + 1)])[0] for kind in _some(kinds, dice))
    return _load(map(_mixed, range(count)), _for_mixed, chosen, dice)


def _by_any_rule(count: int, dice: random.Random) -> Load:
    """The worst for the processor's caches: what one request needs no recent one has used."""
    kinds = [numbers for kind in range(KINDS) if (numbers := range(kind, count, KINDS))]
    return _load(map(_mixed, range(count)), _for_mixed, (dice.choice(kind) for kind in _some(kinds, dice)), dice)


def _some(kinds: Sequence[Sequence[int]], dice: random.Random) -> list[Sequence[int]]:
    return dice.choices(kinds, k=REQUESTS)


def _by_patterns(count: int, dice: random.Random) -> Load:
    """The request that no pattern matches: all are tried."""
    rules = [_rule(number, PathKind.REGEX, f"/items/{number}/[0-9]+") for number in range(count)]
    return _load(rules, lambda _: _head("/items/x"), [0] * (REQUESTS // 10), dice)


def _by_endpoints(count: int, dice: random.Random) -> Load:
    return _load([_rule(0, PathKind.PREFIX, "/", endpoints=count)], lambda _: _head("/x"), [0] * REQUESTS, dice)


def _by_callers(count: int, dice: random.Random) -> Load:
    """A policy is for half of the callers, so that each has to be known."""
    rule = PolicyRule((Source(namespaces=("batch",)),), (), (HttpOperation(methods=("DELETE",)),))
    policy = Policy("shop/no-delete", Action.DENY, EnforcementLevel.APPLICATION, (rule,))
    callers = [
        replace(
            WEB,
            namespace=("shop", "batch")[number % 2],
            service_account=f"sa{number}",
            addresses=(f"10.{number >> 8}.{number & 255}.1",),
        )
        for number in range(count)
    ]
    root = [_rule(0, PathKind.PREFIX, "/")]
    return _load(root, lambda _: _head("/x"), [0] * REQUESTS, dice, callers, (policy,))


RULES = (1, 10, 100, 1000, 5000)
CURVES = (
    Curve("rules of one Service (exact, prefix, header), some asked for more than others", RULES, _by_rules),
    Curve("rules of one Service, each as likely as any other", RULES, _by_any_rule),
    Curve("regular expressions of one Service (none matches)", (1, 16, 128), _by_patterns),
    Curve("endpoints of the backend", (10, 100, 1000, 10_000), _by_endpoints),
    Curve("callers (random; a policy tells them apart)", (10, 100, 1000, 10_000), _by_callers),
)


# ---- measuring ----


def _deciding(load: Load) -> int:
    decide, make_head = load.judge.decide, load.make_head
    start = time.process_time_ns()
    for caller, address, number, rand in load.requests:
        decide(caller, address, make_head(number), rand)
    return time.process_time_ns() - start


def _making(load: Load) -> int:
    make_head = load.make_head
    start = time.process_time_ns()
    for _caller, _address, number, _rand in load.requests:
        make_head(number)
    return time.process_time_ns() - start


def _round(load: Load) -> tuple[float, float]:
    """ns per request: heads and decisions, heads alone."""
    _deciding(load)
    return _deciding(load) / len(load.requests), _making(load) / len(load.requests)


def _measure(curve: Curve) -> dict[int, float]:
    dice = random.Random(1)
    loads = {size: curve.load(size, dice) for size in curve.sizes}
    rounds = [{size: _round(load) for size, load in loads.items()} for _ in range(ROUNDS)]
    least = {size: [min(one[size][part] for one in rounds) for part in (0, 1)] for size in curve.sizes}
    return {size: both - making for size, (both, making) in least.items()}


def _rows(curve: Curve, measured: dict[int, float]) -> Iterator[str]:
    base = 10 if 10 in measured else curve.sizes[0]
    yield f"{curve.title}"
    yield f"{'':>9} {'ns':>8} {'to ' + str(base):>8}"
    for size, cost in measured.items():
        yield f"{size:>9,} {cost:>8,.0f} {cost / measured[base]:>7.2f}x"


def _after_a_change(count: int) -> tuple[float, float]:
    """ms: making the View, and the costliest of the first decisions; on a loop that is how long all others wait."""
    destination = _cart(map(_mixed, range(count)))
    dice = random.Random(2)
    start = time.process_time_ns()
    view = View(0, destination, compile_regex)
    made = time.process_time_ns() - start
    costs = []
    for _ in range(FIRST):
        head = _for_mixed(dice.randrange(count))
        start = time.process_time_ns()
        view.judge.decide(WEB, "10.0.0.1", head, 0.5)
        costs.append(time.process_time_ns() - start)
    return made / 1e6, max(costs) / 1e6


def main(argv: Sequence[str]) -> int:
    argparse.ArgumentParser(prog="python -m bench.curves", description=(__doc__ or "").split("\n", 1)[0]).parse_args(
        argv
    )
    gc.disable()  # a worker freezes its configuration, so the collector does not walk it there either
    for curve in CURVES:
        print(*_rows(curve, _measure(curve)), "", sep="\n")
    print("after a change of the configuration, ms")
    print(f"{'rules':>9} {'view':>8} {'decision':>9}")
    for count in (10, 1000, 5000):
        view, decision = _after_a_change(count)
        print(f"{count:>9,} {view:>8.2f} {decision:>9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
