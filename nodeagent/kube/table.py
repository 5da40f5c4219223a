"""The objects of one kind that are in force, with the last good state where the present one is broken.  No I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from nodeagent.config.objects import Broken, Contents
from nodeagent.config.resources import Identity, Resource
from nodeagent.core.differences import Edition
from nodeagent.kube.judging import Item
from nodeagent.status.digests import Digest


@dataclass(frozen=True, slots=True)
class Change:
    """What the disk has to know of an object: a good one's bytes, or a broken one's; neither = it is gone.

    `keep`: the last good state that the disk has stays beside the broken one.
    """

    identity: Identity
    good: bytes | None = None
    broken: bytes | None = None
    keep: bool = False

    def after(self, before: Change | None) -> Change:
        """Both in one, where `before` was not written yet."""
        if before is None or not self.keep or before.keep:
            return self
        return Change(self.identity, before.good, self.broken)


class Table:
    """By key ("namespace/name").  An object that is equal to the one before stays the same object.

    Most events of a cluster (a pod's probe, a node's heartbeat) change nothing that is read, and end here.
    """

    def __init__(self, noted: Callable[[Change], None], *, counted: bool = False) -> None:
        """`counted`: of a kind with a status, which has to tell what it holds."""
        self._noted = noted
        self._digest = Digest() if counted else None
        self._resources: dict[str, Resource] = {}
        self._broken: dict[str, Broken] = {}
        self._marks: dict[str, int] = {}
        self._listed: set[str] = set()
        self._view: Edition[str, Any] = Edition()
        self._touched: set[str] = set()  # since the view was made
        self._broken_view: tuple[Broken, ...] | None = ()

    def __len__(self) -> int:
        return len(self._resources)

    @property
    def is_empty(self) -> bool:
        return not self._resources and not self._broken

    @property
    def view(self) -> Edition[str, Any]:
        """The resources; the same object until one changes, and never changed itself."""
        if self._touched:
            new = {key: self._resources[key] for key in self._touched if key in self._resources}
            self._view = self._view.next(new, self._touched)
            self._touched.clear()
        return self._view

    @property
    def broken(self) -> tuple[Broken, ...]:
        if self._broken_view is None:
            self._broken_view = tuple(self._broken[key] for key in sorted(self._broken))
        return self._broken_view

    @property
    def contents(self) -> Contents | None:
        """What it holds, broken or not, as any other agent would say it of the same; None = it is not counted."""
        return Contents(len(self._digest), self._digest.text) if self._digest is not None else None

    def mark(self, key: str) -> int | None:
        """Of the object as it was put last."""
        return self._marks.get(key)

    def restore(self, item: Item) -> None:
        """An object from disk.  A broken one comes after its last good state."""
        key = item.identity.key
        self._count(item)
        self._marks[key] = item.mark
        if item.resource is not None:
            self._set(key, item.resource)
        elif item.broken is not None:
            self._set_broken(key, replace(item.broken, last_good=key in self._resources))

    def put(self, item: Item) -> bool:
        """True = something is different now."""
        key, before = item.identity.key, self._broken.get(item.identity.key)
        if item.resource is None and item.broken is None:
            return False
        self._marks[key] = item.mark
        counted = self._count(item)
        if item.broken is not None:
            now = replace(item.broken, last_good=key in self._resources)
            if now == before:
                return counted
            self._set_broken(key, now)
            self._noted(Change(item.identity, broken=item.row, keep=now.last_good))
            return True
        if before is None and self._resources.get(key) == item.resource:
            if counted:  # a new generation that means the same, or another object like the one before
                self._noted(Change(item.identity, good=item.row))
            return counted
        self._forget_broken(key)
        self._set(key, item.resource)
        self._noted(Change(item.identity, good=item.row))
        return True

    def remove(self, identity: Identity) -> bool:
        key = identity.key
        was_there = key in self._resources or key in self._broken
        self._marks.pop(key, None)
        if self._resources.pop(key, None) is not None:
            self._touched.add(key)
        self._forget_broken(key)
        if self._digest is not None:
            self._digest.drop(key)
        if was_there:
            self._noted(Change(identity))
        return was_there

    def begin(self) -> None:
        """A list begins: what `listed` is not called for until `commit` is gone."""
        self._listed = set()

    def listed(self, item: Item) -> bool:
        self._listed.add(item.identity.key)
        return self.put(item)

    def commit(self, kind: str) -> bool:
        gone = (self._resources.keys() | self._broken.keys()) - self._listed
        self._listed = set()
        for key in gone:
            self.remove(_identity(kind, key))
        return bool(gone)

    def _count(self, item: Item) -> bool:
        """True = another object or generation than before."""
        if self._digest is None:
            return False
        before = self._digest.text
        self._digest.put(item.identity.key, *item.made)
        return self._digest.text != before

    def _set(self, key: str, resource: Resource | None) -> None:
        assert resource is not None  # noqa: S101  (an Item has it or is broken)
        same = self._resources.get(key)
        if same is None or same != resource:
            self._resources[key] = resource
            self._touched.add(key)

    def _set_broken(self, key: str, broken: Broken) -> None:
        self._broken[key] = broken
        self._broken_view = None

    def _forget_broken(self, key: str) -> None:
        if self._broken.pop(key, None) is not None:
            self._broken_view = None


def _identity(kind: str, key: str) -> Identity:
    namespace, _, name = key.rpartition("/")
    return Identity(kind, namespace, name)
