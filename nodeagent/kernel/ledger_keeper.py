"""The agent's part of the ledger: what workers inherit, what the dead held, and keys that nobody names any more."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Collection, Mapping

from nodeagent.core.ledger import MAX_CLAIMS, Slot
from nodeagent.kernel import abi, layout, syscall
from nodeagent.kernel.abi import LedgerOp
from nodeagent.kernel.hooks import LEDGER, RECORD
from nodeagent.kernel.ledger import KernelClaims, LedgerFds
from nodeagent.kernel.maps import Maps

FORGETTABLE = (layout.SLOTS, layout.BUDGETS, layout.RECORDS)
"""Buckets make room for themselves."""


class LedgerKeeper:
    """`programs` are descriptors by name, as loaded (`instance.Programs`); they are duplicated here."""

    def __init__(self, maps: Maps, programs: Mapping[str, int]) -> None:
        self._maps = maps
        self._programs = {name: os.dup(programs[name]) for name in (LEDGER.name, RECORD.name)}
        self._read_only: dict[str, int] = {}
        self._unnamed: dict[str, set[bytes]] = {name: set() for name in FORGETTABLE}

    def fds(self) -> LedgerFds:
        """For a worker to inherit: of the maps it gets what cannot write, but for `pulse`, as mmap demands."""
        return LedgerFds(
            ledger=self._programs[LEDGER.name],
            record=self._programs[RECORD.name],
            slots=self._reading(layout.SLOTS),
            buckets=self._reading(layout.BUCKETS),
            records=self._reading(layout.RECORDS),
            pulse=self._maps.map(layout.PULSE).fd,
        )

    def _reading(self, name: str) -> int:
        if name not in self._read_only:
            self._read_only[name] = syscall.obj_get(self._maps.layout.map(name), syscall.F_RDONLY)
        return self._read_only[name]

    def close(self) -> None:
        for fd in (*self._programs.values(), *self._read_only.values()):
            os.close(fd)
        self._programs.clear()
        self._read_only.clear()

    def reap(self, worker: int) -> int:
        """Give back what a dead worker held: how many slots.  Call while nobody can become this worker."""
        held = {key: count for key, count in self._held_by(worker).items() if count}
        keys = list(held)
        for start in range(0, len(keys), MAX_CLAIMS):
            claims = tuple(Slot(key, 0) for key in keys[start : start + MAX_CLAIMS])
            KernelClaims(self._programs[LEDGER.name], worker, claims).run(LedgerOp.REAP)
        return sum(held.values())

    def _held_by(self, worker: int) -> dict[int, int]:
        offset = abi.Slots.held.offset + worker * ctypes.sizeof(ctypes.c_uint64)
        items = self._maps.map(layout.SLOTS).items().items()
        return {_key(key): struct.unpack_from("=Q", value, offset)[0] for key, value in items}

    def forget_except(self, keys: Collection[int]) -> int:
        """Delete entries that were named neither now nor at the last call, and of which nothing is held: how many.

        Two calls in a row, because a worker may still answer its last requests by an older configuration.  Call when
        all have acknowledged the newest.
        """
        named = {key.to_bytes(8, sys.byteorder) for key in keys}
        return sum(self._forget(name, named) for name in FORGETTABLE)

    def _forget(self, name: str, named: Collection[bytes]) -> int:
        table = self._maps.map(name)
        idle = {key for key, value in table.items().items() if key not in named and not _held(name, value)}
        gone = idle & self._unnamed[name]
        self._unnamed[name] = idle - gone
        return sum(table.delete(key) for key in gone)


def _held(name: str, value: bytes) -> bool:
    return name == layout.SLOTS and abi.Slots.from_buffer_copy(value).total > 0


def _key(raw: bytes) -> int:
    return int.from_bytes(raw, sys.byteorder)
