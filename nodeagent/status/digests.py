"""Which objects of a kind a node has in force, as one number that any node computes alike.

A node could name the resourceVersion up to which it has followed a kind; Kubernetes lets these be compared since 1.35.
But a status that is written moves the version, too, so that each write of ours would have to be confirmed by every
node, and a new writer could not tell which of two versions had the generation first.  So: a sum over the objects, of
a hash of name, uid and generation each.  It does not depend on the order of events, changes with a spec only, costs
one addition per change, and needs nothing of the API server that is newer than generations.

Everybody who watches a kind sees the same changes in the same order.  So a digest is a point in the history of the
kind, and of two that the writer saw it knows which is later.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

MODULUS = 1 << 128
HISTORY = 4096  # points per kind that are remembered: more than a minute of 50 changes/s


class Digest:
    """Of one kind: the objects that are there, by key."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}
        self._sum = 0

    def __len__(self) -> int:
        return len(self._of)

    def put(self, key: str, uid: str, generation: int) -> None:
        number = _number(key, uid, generation)
        self._sum = (self._sum + number - self._of.get(key, 0)) % MODULUS
        self._of[key] = number

    def drop(self, key: str) -> None:
        self._sum = (self._sum - self._of.pop(key, 0)) % MODULUS

    @property
    def text(self) -> str:
        return f"{self._sum:032x}"


class History:
    """The points that a kind went through, with a number that grows.  A kind that returns to a point is there later."""

    def __init__(self, most: int = HISTORY) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._most = most
        self.newest = 0

    def note(self, digest: str) -> int:
        """The number of this point, which is the newest."""
        if not self._numbers or next(reversed(self._numbers)) != digest:
            self.newest += 1
            self._numbers[digest] = self.newest
            self._numbers.move_to_end(digest)
            if len(self._numbers) > self._most:
                self._numbers.popitem(last=False)
        return self.newest

    def number(self, digest: str) -> int | None:
        """None = a point that we never saw, or that is too long ago."""
        return self._numbers.get(digest)


def _number(key: str, uid: str, generation: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{key} {uid} {generation}".encode(), digest_size=16).digest(), "big")
