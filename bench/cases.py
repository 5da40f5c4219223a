"""The loads to run, and which one each name stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Case:
    """One load: `connections` of one wrk thread on `path`; `status` is what every answer must be.

    `varied`: no two requests are alike (path, an id and a trace in headers), so that nothing can be remembered.
    `policies`: over the route that has every policy.
    """

    name: str
    connections: int
    path: str
    status: int = 200
    close: bool = False
    varied: bool = False
    policies: bool = False


SMALL, LARGE, DENIED = "/", "/large", "/admin/"

CASES = (
    Case("keepalive-c1", 1, SMALL),
    Case("keepalive-c32", 32, SMALL),
    Case("varied-c32", 32, SMALL, varied=True),
    Case("policies-c32", 32, SMALL, policies=True),
    Case("close-c16", 16, SMALL, close=True),
    Case("large-1mb", 8, LARGE),
    Case("deny", 32, DENIED, status=403),
)


def select(names: str, known: Iterable[str]) -> tuple[str, ...]:
    """The names in a list separated by commas or blanks, in the known order; empty means all."""
    known = tuple(known)
    wanted = names.replace(",", " ").split()
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UnknownNameError(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    return tuple(name for name in known if not wanted or name in wanted)


def cases_named(names: str) -> tuple[Case, ...]:
    chosen = select(names, (case.name for case in CASES))
    return tuple(case for case in CASES if case.name in chosen)
