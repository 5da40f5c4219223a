"""What a policy's entries in the ledger are called, and all those that the policies of a snapshot can name.

An entry belongs to a policy and a backend, and one of a dry run to neither of those in force (DRY_RUN).  Buckets of
rate limits are not listed: they depend on requests, and make room for themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nodeagent.core.breaker import caps_of
from nodeagent.core.ledger import ledger_key
from nodeagent.core.model import Destination, Snapshot, Treatment
from nodeagent.core.retries import budget_claims
from nodeagent.core.traffic import TrafficPolicy
from nodeagent.core.treatment import retry_of, treatment_of_rule, treatment_without_route

DRY_RUN = " (dry run)"
"""Ends a policy's name where its dry run is meant; no policy can be called so."""
_ROUTE = "route"
"""Whose budget it is where a route retries and no policy applies; no policy can be called so either."""


class Names(NamedTuple):
    """Whose an entry is; `policy` with DRY_RUN or without."""

    policy: str
    backend: str


def names_of(traffic: TrafficPolicy, backend: str, variant: str = "") -> Names:
    return Names(traffic.name + variant, backend)


def budget_names(traffic: TrafficPolicy | None, backend: str, variant: str = "") -> Names:
    """Of retries by `traffic`, or by a route that no policy applies to."""
    return Names(_ROUTE, backend) if traffic is None else names_of(traffic, backend, variant)


def family_names(names: Names, *, v6: bool) -> tuple[str, ...]:
    """Health of endpoints is kept apart by family, since each record forgets endpoints that it does not know."""
    return (*names, "IPv6") if v6 else names


def outlier_key(names: tuple[str, ...]) -> int:
    """Of the record of endpoints in trouble (nodeagent.core.health); `names`: `family_names`."""
    return ledger_key("outlier", *names)


def tally_key(names: tuple[str, ...]) -> int:
    """Of the record of requests and successes (nodeagent.core.tallies)."""
    return ledger_key("tally", *names)


def room_key(names: tuple[str, ...]) -> int:
    """Of the record by which workers ask each other for idle connections' places."""
    return ledger_key("room", *names)


def ledger_keys(snapshot: Snapshot) -> set[int]:
    """Every key of a slot, budget or record that a worker can use under this snapshot."""
    seen: set[tuple[object, ...]] = set()  # many rules lead to the same backend by the same policies
    found: set[int] = set()
    for destination in snapshot.destinations.values():
        for treatment in () if destination.is_plain else _treatments(destination):
            mark = treatment.backend, id(treatment.traffic), id(treatment.shadow), retry_of(treatment) is None
            if mark not in seen:
                seen.add(mark)
                found.update(_keys(treatment))
    return found


def _treatments(destination: Destination) -> Iterator[Treatment]:
    rules = destination.rules
    routed = (treatment_of_rule(destination, rule, backend) for rule in rules for backend in rule.backends)
    for treatment in (treatment_without_route(destination), *routed):
        if treatment is not None:
            yield treatment


def _keys(treatment: Treatment) -> Iterator[int]:
    traffic, shadow, backend = treatment.traffic, treatment.shadow, treatment.backend
    if traffic is not None:
        yield from _of_policy(traffic, names_of(traffic, backend))
    retry = retry_of(treatment)
    if retry is not None:
        yield budget_claims(retry.budget, *budget_names(traffic, backend))[0].key
    if shadow is not None:
        yield from _of_policy(shadow, names_of(shadow, backend, DRY_RUN))
        if shadow.retry is not None:
            yield budget_claims(shadow.retry.budget, *budget_names(shadow, backend, DRY_RUN))[0].key


def _of_policy(traffic: TrafficPolicy, names: Names) -> Iterable[int]:
    """Of both families, whichever the endpoints are of now."""
    if traffic.circuit_breaker is not None:
        yield from (slot.key for slot in caps_of(traffic.circuit_breaker, *names) if slot is not None)
        yield room_key(names)
    if traffic.outlier_detection is not None:
        for v6 in (False, True):
            yield outlier_key(family_names(names, v6=v6))
            yield tally_key(family_names(names, v6=v6))
