"""Where pods dialled to past the workers (map `dialled`): what spares the agent most looks for connections in pods.

A place holds the low byte of the turn in which an address with its hash was last dialled.  So it may say that an
address was dialled that was not, and never the opposite: for connections that the hooks saw, or that were noted here
after a listing.  When a quarter of the places tells of this turn a new one begins, and what was noted before the last
counts no more.  So whoever relies on it lists each pod once in each turn, and notes what is still there (hence `turn`);
that a mark outlives its turn is for a connect() that was under way when the turn or the listing began.

A Bloom filter of the kernel's (BPF_MAP_TYPE_BLOOM_FILTER) forgets nothing, and is full one day.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable

from nodeagent.kernel import abi

_WORDS = struct.Struct("=4I")
_GOLDEN = 0x9E3779B1
_FIRST_TURN = 2  # 0 is the mark of a place that was never used, and 1 may be that of the turn before
_MANY = abi.DIALLED_PLACES // 4


def place(address: str) -> int:
    """As na_note_dialled in bpf/judge.h has it.  ValueError if it is no address."""
    number = 0
    for word in _WORDS.unpack(abi.pack_addr(address)):
        number = (number ^ word) * _GOLDEN & 0xFFFFFFFF
    return number >> 16


class Dialled:
    """Over the map's one element, which the hooks write as well, or a copy of it."""

    def __init__(self, element: mmap.mmap | bytearray) -> None:
        self._element = abi.Dialled.from_buffer(element)
        if self._element.turn < _FIRST_TURN:  # noqa: PLR1730  # max() would undo what another agent writes meanwhile
            self._element.turn = _FIRST_TURN

    @property
    def turn(self) -> int:
        """What was noted in this turn or the one before counts."""
        return int(self._element.turn)

    def note(self, addresses: Iterable[str]) -> None:
        mark, places = self.turn & 0xFF, self._element.places
        for address in addresses:
            places[place(address)] = mark

    def among(self, addresses: Iterable[str]) -> set[str]:
        """Those that may have been dialled."""
        marks, places = _marks(self.turn), self._element.places
        return {address for address in addresses if places[place(address)] in marks}

    def used(self) -> int:
        """How many places tell of an address."""
        return sum(map(self._marked, _marks(self.turn)))

    def _marked(self, mark: int) -> int:
        return bytes(self._element.places).count(mark)

    def forget_some(self) -> None:
        """Begin a new turn if many places are in use."""
        if self._marked(self.turn & 0xFF) > _MANY:
            self._element.turn = _after(self.turn)


def _marks(turn: int) -> set[int]:
    return {turn & 0xFF, turn - 1 & 0xFF}


def _after(turn: int) -> int:
    """Of the turns whose marks would be 0 and 1 there is none: that is as if two had passed."""
    later = turn + 1
    return later if later & 0xFF else later + _FIRST_TURN
