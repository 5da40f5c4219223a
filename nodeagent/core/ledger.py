"""The node's ledger: limits that all workers share, and that outlive each of them.

A *claim* takes something of one limit.  Claims are made together, all or none: when one is refused, the ones before
it are undone.  In the product the ledger is BPF maps, changed by programs under BPF_PROG_TEST_RUN
(`nodeagent.kernel.ledger`); `LocalLedger` is the same in plain Python, for one process: the reference that tests
compare the kernel's with, and what a data path without a kernel uses.

A *record* is some bytes with a version, for state that is computed elsewhere (`nodeagent.core.outlier`): it is
replaced only by who has seen its latest version.  `pulse` changes whenever a record does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

MAX_CLAIMS = 8
RECORD_BYTES = 2032
"""Of a record's content."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One of `limit` at a time, held by a worker until it is given back or the worker dies."""

    key: int  # 64 bits, `ledger_key`
    limit: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """GCRA: one per `period` ns on average, `burst` at once.  Idle buckets may be forgotten: they are full anyway."""

    key: int
    period: int
    burst: int


@dataclass(frozen=True, slots=True)
class BudgetRequest:
    """Count a request towards a retry budget; never refused."""

    key: int
    interval: int  # ns, the budget's window


@dataclass(frozen=True, slots=True)
class BudgetRetry:
    """Take a retry: while they are below `percent` of the window's requests, or below `floor` per `floor_interval`."""

    key: int
    interval: int  # ns
    percent: int
    floor: int
    floor_interval: int  # ns, at most `interval`


def ledger_key(*names: str) -> int:
    """The key of what these names say, which must not be guessable by a client who wants another's bucket."""
    text = "\0".join(names)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


Claim = Slot | Tokens | BudgetRequest | BudgetRetry

TAKEN = -1
"""All claims were taken."""


class Prepared(Protocol):
    """Claims in the form the ledger takes fastest; made once, used for many requests."""

    @property
    def claims(self) -> Sequence[Claim]: ...


class Ledger(Protocol):
    def prepare(self, claims: Sequence[Claim]) -> Prepared:
        """At most MAX_CLAIMS."""

    def take(self, prepared: Prepared) -> int:
        """TAKEN, or the index of the claim that was refused: then none is taken."""

    def give(self, prepared: Prepared) -> None:
        """Give back the slots among claims that were taken."""

    def wait(self, tokens: Tokens) -> int:
        """Nanoseconds until a token will be there, 0 = now."""

    def left(self, tokens: Tokens) -> int:
        """Whole tokens that are there now."""

    def held(self, slot: Slot) -> int:
        """How many are held now, by all workers."""

    def read(self, key: int) -> tuple[int, bytes]:
        """(version, content) of a record; (0, b"") when there is none."""

    def swap(self, key: int, version: int, content: bytes) -> bool:
        """Replace a record if its version is still this one."""

    @property
    def pulse(self) -> int: ...
