"""What to say about each object, in the words of Gateway API's conditions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from nodeagent.core.differences import Edition

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
    generation: int = 0  # of the first snapshot of this object in which it is said
    ref: int = -1  # position of `parent` in spec.parentRefs or spec.targetRefs; -1 = the object as a whole

    @property
    def words(self) -> tuple[str | int, ...]:
        """What it says, of whichever snapshot."""
        return (self.parent, self.type, self.status, self.reason, self.message, self.field, self.ref)


ObjectKey = tuple[str, str]  # kind, "namespace/name"


class Conditions(Collection[Condition]):
    """All of a snapshot.  `by_object` has the same tuple as in the snapshot before where nothing else is said."""

    def __init__(self, by_object: Edition[ObjectKey, tuple[Condition, ...]] | None = None) -> None:
        self.by_object: Edition[ObjectKey, tuple[Condition, ...]] = Edition() if by_object is None else by_object

    @classmethod
    def of(cls, conditions: Iterable[Condition]) -> Conditions:
        said: dict[ObjectKey, list[Condition]] = {}
        for one in conditions:
            said.setdefault((one.kind, one.object), []).append(one)
        return cls(Edition({key: tuple(found) for key, found in said.items()}))

    def __iter__(self) -> Iterator[Condition]:
        return chain.from_iterable(self.by_object.values())

    def __len__(self) -> int:
        return sum(map(len, self.by_object.values()))

    def __contains__(self, one: object) -> bool:
        return any(one == other for other in self)

    def next(
        self, said: Mapping[ObjectKey, tuple[Condition, ...]], renewed: Collection[ObjectKey] = ()
    ) -> Conditions:
        """`said` about these objects now, () = nothing; those that are `renewed` are other objects than before."""
        before = self.by_object
        new = {
            key: now for key, now in said.items() if now and (key in renewed or not _same(now, before.get(key, ())))
        }
        edition = before.next(new, [key for key, now in said.items() if not now])
        return self if edition is before else Conditions(edition)


def _same(now: tuple[Condition, ...], before: tuple[Condition, ...]) -> bool:
    return now is before or [one.words for one in now] == [one.words for one in before]


def programmed(conditions: Iterable[Condition], acknowledged: int) -> list[Condition]:
    """Turn Programmed conditions True once every worker and the kernel confirmed generation `acknowledged`."""
    return [
        replace(condition, status=TRUE, reason=PROGRAMMED, message="")
        if condition.type == PROGRAMMED and condition.status == UNKNOWN and condition.generation <= acknowledged
        else condition
        for condition in conditions
    ]
