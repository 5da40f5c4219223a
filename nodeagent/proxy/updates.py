"""A snapshot on its way to the workers: what differs from the one before, each destination as bytes.

    agent   Encoder     snapshot -> frames, the same for all workers; a destination is encoded when it changed
    worker  Incoming    frames -> snapshot

A worker keeps the bytes, and decodes a destination when a connection first needs it: of a big configuration it
meets a small part.  So it takes an update of any size between two requests, a frame of at most PART destinations
at a time, and the garbage collector finds nothing new to walk.  A destination of so many rules that a request would
have to wait comes decoded: its rules are sent before it, RULES in a frame.
"""

from __future__ import annotations

import io
import itertools
import operator
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from nodeagent.core.differences import Selection, changed, gone
from nodeagent.core.layers import Layers
from nodeagent.core.model import Destination, Rule, Snapshot, Workload
from nodeagent.proxy.frames import encode_command

Target = tuple[str, int]
Data = tuple[bytes, ...]  # a destination without the rules that follow, then these, RULES each
Piece = tuple[str, tuple[Rule, ...]]  # some rules of a group; "" = the producer's

PART = 1000
RULES = 500
EMPTY = Snapshot(generation=0, destinations={}, workloads={})
"""What a worker starts with."""


@dataclass(frozen=True, slots=True)
class Head:
    """Ends an update whose destinations came in parts before.  `base`: the generation it builds on, None = on nothing.

    `workloads` are changed ones of this node: only these can be callers here.
    """

    generation: int
    base: int | None
    gone: tuple[Target, ...] = ()
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    gone_workloads: tuple[str, ...] = ()


class Encoder:
    """The agent's end: remembers the last snapshot, encoded."""

    def __init__(self) -> None:
        self._snapshot = EMPTY
        self._encoded: dict[Target, Data] = {}
        self._selection: Selection[str, Workload] = Selection(lambda workload: workload.is_here)
        self._here: Mapping[str, Workload] = {}

    def advance(self, snapshot: Snapshot) -> list[bytes]:
        """Frames for workers that have the snapshot before this one (at first: EMPTY)."""
        before, self._snapshot = self._snapshot, snapshot
        made = changed(before.destinations, snapshot.destinations)
        met = {target: encode(one) for target, one in made.items() if one.is_met_by_workers}
        new = {target: data for target, data in met.items() if self._encoded.get(target) != data}
        left = gone(before.destinations, snapshot.destinations) | (made.keys() - met.keys())
        lost = tuple(target for target in left if target in self._encoded)
        self._encoded.update(new)
        for target in lost:
            del self._encoded[target]
        old_pods, self._here = self._here, self._selection.of(snapshot.workloads)
        pods = self._here
        workloads, left_pods = changed(old_pods, pods), tuple(gone(old_pods, pods))
        return list(_frames(new, Head(snapshot.generation, before.generation, lost, workloads, left_pods)))

    def whole(self) -> list[bytes]:
        """Frames of the last snapshot, for a worker with any other or none."""
        return list(_frames(self._encoded, Head(self._snapshot.generation, None, workloads=dict(self._here))))


def _frames(encoded: Mapping[Target, Data], head: Head) -> Iterator[bytes]:
    for target, (_, *pieces) in encoded.items():
        for piece in pieces:
            yield encode_command("rules", (target, piece))
    left = iter(encoded.items())
    while part := {target: data[0] for target, data in itertools.islice(left, PART)}:
        yield encode_command("part", part)
    yield encode_command("snapshot", head)


class Incoming:
    """A worker's end."""

    def __init__(self) -> None:
        self._rules: dict[Target, list[Piece]] = {}
        self._parts: dict[Target, Destination | bytes] = {}

    def rules(self, target: Target, data: bytes) -> None:
        self._rules.setdefault(target, []).append(_loads(data))

    def part(self, encoded: Mapping[Target, bytes]) -> None:
        self._parts.update(encoded)
        for target in self._rules.keys() & encoded.keys():
            self._parts[target] = _with_rules(_loads(encoded[target]), self._rules.pop(target))

    def finish(self, head: Head, current: Snapshot) -> Snapshot | None:
        """The snapshot that the parts so far and `head` make of the current one; None when they are for another."""
        parts, self._parts, self._rules = self._parts, {}, {}
        if head.base is None:
            return Snapshot(head.generation, EncodedDestinations(Layers(parts)), dict(head.workloads))
        if head.base != current.generation:
            return None
        held = _held(current.destinations)
        held.put_all(parts)
        workloads = {**current.workloads, **head.workloads}
        _remove(held, head.gone)
        _remove(workloads, head.gone_workloads)
        return Snapshot(head.generation, EncodedDestinations(held), workloads)


def _held(destinations: Mapping[Target, Destination]) -> Layers[Target, Destination | bytes]:
    return destinations.held.copy() if isinstance(destinations, EncodedDestinations) else Layers(destinations)


def _remove(table: MutableMapping[Any, Any], keys: Iterable[Any]) -> None:
    for key in keys:
        table.pop(key, None)


class EncodedDestinations(Mapping[Target, Destination]):
    """Destinations, each decoded at its first use; then it stays the same object, also in later snapshots.

    In layers: a table that is made anew with every change would be walked by the garbage collector as often.
    Connections look here at their first request after a change only.
    """

    __slots__ = ("held",)

    def __init__(self, held: Layers[Target, Destination | bytes]) -> None:
        """`held` is ours from now on."""
        self.held = held

    def __getitem__(self, target: Target) -> Destination:
        found = self.held[target]
        if isinstance(found, bytes):
            found = self.held[target] = _loads(found)
        return found

    def __contains__(self, target: object) -> bool:
        return target in self.held

    def __iter__(self) -> Iterator[Target]:
        return iter(list(self.held))  # to look at one may write it, decoded

    def __len__(self) -> int:
        return len(self.held)


# ---- one destination ----


def encode(destination: Destination) -> Data:
    groups = {"": destination.producer_rules, **destination.consumer_rules}
    if sum(map(len, groups.values())) <= RULES:
        return (_dumps(destination),)
    bare = replace(destination, producer_rules=(), consumer_rules=dict.fromkeys(destination.consumer_rules, ()))
    pieces = ((name, rules[at : at + RULES]) for name, rules in groups.items() for at in range(0, len(rules), RULES))
    return (_dumps(bare), *map(_dumps, pieces))


def _with_rules(bare: Destination, pieces: Iterable[Piece]) -> Destination:
    groups: dict[str, list[Rule]] = {"": [], **{name: [] for name in bare.consumer_rules}}
    for name, rules in pieces:
        groups[name] += rules
    producer, consumer = tuple(groups.pop("")), {name: tuple(rules) for name, rules in groups.items()}
    return replace(bare, producer_rules=producer, consumer_rules=consumer)


def _dumps(value: object) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getvalue()


def _loads(data: bytes) -> Any:
    """In a worker only: the agent, which is root, is trusted there."""
    return pickle.loads(data)  # noqa: S301 - see above


class _Pickler(pickle.Pickler):
    """Frozen dataclasses by their constructors: a fifth of the time to read them that the standard way takes."""

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if not is_dataclass(kind):
            return NotImplemented
        return kind, _values(kind)(value)


_known: dict[type, Callable[[Any], tuple[Any, ...]]] = {}


def _values(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """Reads all fields of such an object, in the order of its constructor."""
    found = _known.get(kind)
    if found is None:
        names = [one.name for one in fields(kind)]
        read = operator.attrgetter(*names)
        found = _known[kind] = read if len(names) > 1 else lambda value: (read(value),)
    return found
