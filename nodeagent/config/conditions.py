"""What to say about each object, in the words of Gateway API's conditions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

ACCEPTED = "Accepted"
RESOLVED_REFS = "ResolvedRefs"
PROGRAMMED = "Programmed"
PARTIALLY_INVALID = "PartiallyInvalid"  # there only when it is True
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of one object towards one parent (a Service or Namespace, "" = the object as a whole)."""

    kind: str
    object: str  # "namespace/name"
    parent: str  # "Service shop/payments"
    type: str  # Accepted | PartiallyInvalid | ResolvedRefs | Programmed
    status: str  # True | False | Unknown
    reason: str
    message: str = ""
    field: str = ""  # spec.rules[0].backendRefs[1]
    generation: int = 0  # of the snapshot that this speaks of
    ref: int = -1  # position of `parent` in spec.parentRefs or spec.targetRefs; -1 = the object as a whole


def programmed(conditions: Iterable[Condition], acknowledged: int) -> list[Condition]:
    """Turn Programmed conditions True once every worker and the kernel confirmed generation `acknowledged`."""
    return [
        replace(condition, status=TRUE, reason=PROGRAMMED, message="")
        if condition.type == PROGRAMMED and condition.status == UNKNOWN and condition.generation <= acknowledged
        else condition
        for condition in conditions
    ]
