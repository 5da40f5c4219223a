"""Ids of workloads, destinations, policies and pods: given once, kept in the pinned map `names`, never reused.

Counters refer to ids, and must mean the same after a restart; so the map is where ids live, and the
next free one is stored in it under key 0.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from nodeagent.core.kernel_state import Name, NameKind
from nodeagent.kernel import abi
from nodeagent.kernel.bpf import Map

_KEY = struct.Struct("=I")
_COUNTER = 0
_TEXT_BYTES = 251


def shortened(text: str) -> str:
    """Text as the map can hold it: a long one keeps its start and gets a digest, so that two stay different."""
    raw = text.encode()
    if len(raw) <= _TEXT_BYTES:
        return text
    digest = hashlib.sha256(raw).hexdigest()[:16]
    return raw[: _TEXT_BYTES - 17].decode("utf-8", "ignore") + "~" + digest


class Names:
    """The single writer of `names`; read once, then kept in memory."""

    def __init__(self, table: Map) -> None:
        self._table = table
        self._ids: dict[Name, int] = {}
        self._next = 1
        self._read()

    def _read(self) -> None:
        for key, value in self._table.items().items():
            number, name = _KEY.unpack(key)[0], abi.Name.from_buffer_copy(value)
            text = name.text.decode("utf-8", "replace")
            if number == _COUNTER:
                self._next = max(self._next, int(text))
            else:
                self._ids[NameKind(name.kind), text] = number
                self._next = max(self._next, number + 1)

    def allocate(self, wanted: Iterable[Name]) -> dict[Name, int]:
        """Ids of all `wanted` names (as given, not shortened), new ones written to the map."""
        stored = {name: (name[0], shortened(name[1])) for name in wanted}
        missing = sorted(set(stored.values()) - self._ids.keys())
        if missing:
            # the counter first: an id that was handed out is never free again, even if we die here
            self._write(_COUNTER, abi.NameKind.NEXT, str(self._next + len(missing)))
        for kind, text in missing:
            self._write(self._next, kind, text)
            self._ids[kind, text] = self._next
            self._next += 1
        return {name: self._ids[short] for name, short in stored.items()}

    def _write(self, number: int, kind: int, text: str) -> None:
        self._table.update(_KEY.pack(number), bytes(abi.Name(kind, text.encode())))

    def drop_pods(self, keep: Iterable[int]) -> int:
        """Forget ids of pods that are gone (counters never refer to these): how many."""
        kept = set(keep)
        gone = [name for name, number in self._ids.items() if name[0] is NameKind.POD and number not in kept]
        for name in gone:
            self._table.delete(_KEY.pack(self._ids.pop(name)))
        return len(gone)
