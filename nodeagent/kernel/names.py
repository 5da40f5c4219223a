"""Ids of workloads, destinations, policies and pods: given once, kept in the pinned map `names`, never reused.

Counters refer to ids, and must mean the same after a restart; so the map is where ids live, and the
next free one is stored in it under key 0.

A full map must not keep policy from getting in.  What finds no room gets id 0: it is judged as any
other, and counted without a name.  Only pods need ids of their own (verdicts depend on them), so a
part of the map is theirs alone.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Callable, Collection, Iterable

from nodeagent.core.kernel_state import Name, NameKind
from nodeagent.kernel import abi
from nodeagent.kernel.bpf_map import Map

log = logging.getLogger(__name__)

NAMELESS = 0
# Twice what `pods` holds: a pod that changes has its old id and its new one for a moment.
POD_RESERVE = 8192

_KEY = struct.Struct("=I")
_COUNTER = 0
_TEXT_BYTES = 251

InUse = Callable[[], Collection[int]]


def shortened(text: str) -> str:
    """Text as the map can hold it: a long one keeps its start and gets a digest, so that two stay different."""
    raw = text.encode()
    if len(raw) <= _TEXT_BYTES:
        return text
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return raw[: _TEXT_BYTES - 17].decode("utf-8", "ignore") + "~" + digest


class Names:
    """The single writer of `names`; read once, then kept in memory."""

    def __init__(self, table: Map, in_use: InUse) -> None:
        """`in_use` gives the ids that maps refer to; asked only when the map is full."""
        self._table = table
        self._in_use = in_use
        self._ids: dict[Name, int] = {}
        self._pods = 0  # of these, how many are pods'
        self._next = 1
        self._nameless: set[Name] = set()
        self._read()

    def _read(self) -> None:
        for key, value in self._table.items().items():
            number, name = _KEY.unpack(key)[0], abi.Name.from_buffer_copy(value)
            text = name.text.decode("utf-8", "replace")
            if number == _COUNTER:
                self._next = max(self._next, int(text))
            else:
                self._set((NameKind(name.kind), text), number)
                self._next = max(self._next, number + 1)

    def allocate(self, wanted: Iterable[Name]) -> dict[Name, int]:
        """Ids of all `wanted` names (as given, not shortened), new ones written to the map; 0 = it has no room.

        BpfError (E2BIG) if there is no room for a pod.
        """
        stored = {name: (name[0], shortened(name[1])) for name in wanted}
        missing = {name for name in stored.values() if name not in self._ids}  # `-` would walk all ids that there are
        if missing:
            self._add(self._that_fit(missing, set(stored.values())))
        return {name: self._ids.get(short, NAMELESS) for name, short in stored.items()}

    def _that_fit(self, missing: set[Name], wanted: set[Name]) -> list[Name]:
        """Pods first; of the others as many as the map has room for beside the pods' part."""
        pods = sorted(name for name in missing if name[0] is NameKind.POD)
        others = sorted(missing.difference(pods))
        if len(others) > self._room():
            self._drop_unused_destinations(wanted)
        fitting = others[: max(0, self._room())]
        self._tell(set(others[len(fitting) :]))
        return pods + fitting

    def _room(self) -> int:
        """For names that are no pods'."""
        size = self._table.spec.max_entries
        return size - 1 - min(POD_RESERVE, size // 8) - (len(self._ids) - self._pods)

    def _tell(self, nameless: set[Name]) -> None:
        if nameless - self._nameless:
            log.warning(
                "the map of names is full (%d): %d names have no room, among them %s. Rules apply, but what happens "
                "there is counted without a name. Destinations that were never used make room by themselves; "
                "`nodeagent uninstall` and a new start drop all, with the counters",
                self._table.spec.max_entries,
                len(nameless),
                min(nameless)[1],
            )
        self._nameless = nameless

    def _add(self, names: list[Name]) -> None:
        # the counter first: an id that was handed out is never free again, even if we die here
        self._write(_COUNTER, abi.NameKind.NEXT, str(self._next + len(names)))
        for kind, text in names:
            self._write(self._next, kind, text)
            self._set((kind, text), self._next)
            self._next += 1

    def _set(self, name: Name, number: int) -> None:
        self._pods += name[0] is NameKind.POD and name not in self._ids
        self._ids[name] = number

    def _write(self, number: int, kind: int, text: str) -> None:
        self._table.update(_KEY.pack(number), bytes(abi.Name(kind, text.encode())))

    def drop_pods(self, keep: Iterable[int]) -> int:
        """Forget ids of pods that are gone (counters never refer to these): how many."""
        kept = set(keep)
        return self._drop(name for name, number in self._ids.items() if name[0] is NameKind.POD and number not in kept)

    def _drop_unused_destinations(self, wanted: set[Name]) -> int:
        """Forget destinations that no map refers to: no counter changes by it.  An id is not given again."""
        used = set(self._in_use())
        found = self._ids.items()
        return self._drop(n for n, number in found if n[0] is NameKind.DEST and n not in wanted and number not in used)

    def _drop(self, names: Iterable[Name]) -> int:
        gone = list(names)
        for name in gone:
            self._table.delete(_KEY.pack(self._ids[name]))
            del self._ids[name]
            self._pods -= name[0] is NameKind.POD
        return len(gone)
