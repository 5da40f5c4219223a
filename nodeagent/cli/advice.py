"""What to do about what is wrong with the configuration, by the reason that the agent gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from nodeagent.config.problems import NOT_PROGRAMMED


class Advice(NamedTuple):
    why: str
    fix: str


_BROKEN = Advice("this object is not in force as written", "correct it and save the file, or apply it")
_ERRORS: Mapping[str, Advice] = {
    NOT_PROGRAMMED: Advice(
        "what the kernel does is not yet what the configuration says",
        "the agent goes on trying by itself; if the line stays, do as it says, and see the agent's log",
    ),
    "Conflicted": Advice(
        "nothing is wrong with the object itself, but another one has its place and is in force instead",
        "give one of the two another target or address, or delete the one that should not count",
    ),
    "TargetNotFound": Advice(
        "the policy is in order and takes effect by itself when its target is there",
        "create the target, or correct spec.targetRefs",
    ),
    "NoMatchingParent": Advice(
        "the route applies to no call of this parent; it does by itself when the parent is there",
        "create the Service or its port, or correct spec.parentRefs",
    ),
    "UnsupportedValue": Advice(
        "the route is well-formed, but asks for what this release does not do",
        "use what is supported: the line says what that is",
    ),
    "Invalid": Advice(
        "the policy is well-formed, but has nothing to act on at this target",
        "correct the Service that the line names, or spec.targetRefs",
    ),
}
_WARNINGS: Mapping[str, Advice] = {
    "UnsupportedValue": Advice(
        "the other rules are in force; requests that this one takes are answered 500",
        "use a value that is supported: the line lists them",
    ),
    "InvalidKind": Advice(
        "the route is in force; requests that need what it refers to are answered 500",
        "take the reference out, or refer to a Service: this release has no extensions",
    ),
}
_DANGLING = Advice(
    "this object is in force, and what it refers to cannot serve", "create what it refers to, or correct the reference"
)


def on_error(reason: str) -> Advice:
    return _ERRORS.get(reason, _BROKEN)


def on_warning(reason: str) -> Advice:
    return _WARNINGS.get(reason, _DANGLING)
