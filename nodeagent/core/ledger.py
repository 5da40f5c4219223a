"""The node's ledger: limits that all workers share, and that outlive each of them.

A *claim* takes something of one limit.  Claims are made together, all or none: when one is refused, the ones before
it are undone.  Requests are counted towards a budget last, since nothing can refuse them.

In the product the ledger is BPF maps, changed by programs under BPF_PROG_TEST_RUN (`nodeagent.kernel.ledger`);
`LocalLedger` is the same in plain Python, for one process: the reference that tests compare the kernel's with, and
what a data path without a kernel uses.

A *record* is some bytes with a version, for state that is computed elsewhere (`nodeagent.core.outlier`): it is
replaced only by who has seen its latest version.  `pulse` changes whenever a record does.

Every table has a bound (`Sizes`).  A full one refuses what needs a new entry, which `full` counts; only buckets
make room for themselves: the one unused for longest is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

MAX_CLAIMS = 8
RECORD_BYTES = 2032
"""Of a record's content."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many keys each table holds (bpf/maps.h)."""

    slots: int = 16384
    buckets: int = 65536
    budgets: int = 4096
    records: int = 2048


@dataclass(frozen=True, slots=True)
class Slot:
    """One of `limit` at a time, held by a worker until it is given back or the worker dies."""

    key: int  # 64 bits, `ledger_key`
    limit: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """GCRA: one per `period` ns on average, `burst` at once.  Idle buckets may be forgotten: they are full anyway.

    `count` tokens are taken, or none; refused also when fewer than `leave` would be left.
    """

    key: int
    period: int
    burst: int
    count: int = 1
    leave: int = 0


@dataclass(frozen=True, slots=True)
class BudgetRequest:
    """Count `count` requests towards a retry budget; never refused."""

    key: int
    interval: int  # ns, the budget's window
    count: int = 1


@dataclass(frozen=True, slots=True)
class BudgetRetry:
    """Take a retry: while they are below `percent` of the window's requests, or below `floor` per `floor_interval`.

    The floor is a bucket that every retry takes from as long as it has something: a retry is never refused while the
    last `floor_interval` had fewer than `floor`.  The window is `WINDOW_SLICES` slices, of which the last is under way.
    """

    key: int
    interval: int  # ns
    percent: int
    floor: int
    floor_interval: int  # ns


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
        """Give back the slots and tokens among claims that were taken.  What a budget counted stays counted."""

    def wait(self, tokens: Tokens) -> int:
        """Nanoseconds until a token will be there, 0 = now."""

    def left(self, tokens: Tokens) -> int:
        """Whole tokens that are there now."""

    def held(self, slot: Slot) -> int:
        """How many are held now, by all workers."""

    def read(self, key: int) -> tuple[int, bytes]:
        """(version, content) of a record; (0, b"") when there is none."""

    def swap(self, key: int, version: int, content: bytes) -> bool:
        """Replace a record if its version is still this one.  False also when the table has no room (see `full`)."""

    @property
    def full(self) -> int:
        """How often a table had no room, or no memory, for what this process asked."""

    @property
    def pulse(self) -> int: ...

    @property
    def pulse_cell(self) -> Sequence[int]:
        """Its one element is `pulse`, for who looks at every request."""


# ---- the arithmetic, the same in bpf/ledger.c ----

WINDOW_SLICES = 10
LAP_MASK = (1 << 20) - 1
COUNT_LIMIT = (1 << 22) - 1
"""A slice is one word of 64 bits: 20 of its lap (which time round the window), 22 each of requests and retries."""
TOLERANCE_LIMIT = 1 << 62
"""No bucket holds more than 146 years' worth, so that sums of times stay below 64 bits."""
_U32 = (1 << 32) - 1
_U64 = (1 << 64) - 1


def tolerance(period: int, burst: int) -> int:
    """How far a bucket's theoretical arrival time may lie ahead of now: `burst` periods."""
    return min(period * burst, TOLERANCE_LIMIT)


def wait_of(tat: int, period: int, tolerance: int, now: int) -> int:
    """Nanoseconds until a bucket has a token.  A time that the tolerance does not reach is an empty bucket's."""
    return max(0, max(min(tat, now + tolerance), now) + period - now - tolerance)


def left_in(tat: int, period: int, tolerance: int, now: int) -> int:
    """Whole tokens of a bucket."""
    return max(0, tolerance - max(0, tat - now)) // period


def slice_of(interval: int) -> int:
    """Nanoseconds of one slice of a budget's window."""
    return max(1, interval // WINDOW_SLICES)


def floor_of(claim: BudgetRetry) -> tuple[int, int]:
    """(period, tolerance) of the bucket that a budget's floor is; tolerance 0 = no floor."""
    if not claim.floor:
        return 1, 0
    period = max(1, claim.floor_interval // claim.floor)
    return period, tolerance(period, claim.floor)


def taking_order(claims: Sequence[Claim]) -> tuple[int, ...]:
    """Indexes in the order in which claims are taken: requests last.  ValueError for claims the ledger cannot take."""
    if len(claims) > MAX_CLAIMS:
        raise ValueError(f"{len(claims)} claims at once; the ledger takes at most {MAX_CLAIMS}")
    for claim in claims:
        _check(claim)
    return tuple(sorted(range(len(claims)), key=lambda index: isinstance(claims[index], BudgetRequest)))


def _check(claim: Claim) -> None:
    """ValueError for what no limit can mean, or what the kernel's fields do not hold."""
    bounds = {"key": (0, _U64)}
    match claim:
        case Slot():
            bounds["limit"] = (0, _U32)
        case Tokens():
            most = TOLERANCE_LIMIT // max(1, claim.period)
            bounds |= {"period": (1, TOLERANCE_LIMIT), "burst": (1, _U64), "count": (1, most), "leave": (0, most)}
        case BudgetRequest():
            bounds |= {"interval": (1, TOLERANCE_LIMIT), "count": (1, COUNT_LIMIT)}
        case BudgetRetry():
            bounds |= {"interval": (1, TOLERANCE_LIMIT), "percent": (0, _U32), "floor": (0, _U32)}
            bounds["floor_interval"] = (0, TOLERANCE_LIMIT)
    for name, (least, most) in bounds.items():
        if not least <= (value := getattr(claim, name)) <= most:
            raise ValueError(f"{claim}: {name} is {value}, which must be from {least} to {most}")


# ---- the ledger of one process ----


class _Slice:
    """One slice of a budget's window."""

    __slots__ = ("lap", "requests", "retries")

    def __init__(self) -> None:
        self.lap = self.requests = self.retries = 0

    def enter(self, lap: int) -> _Slice:
        """Start anew if the counts are of an earlier lap."""
        if self.lap != lap:
            self.lap, self.requests, self.retries = lap, 0, 0
        return self


class _Budget:
    def __init__(self) -> None:
        self.slices = [_Slice() for _ in range(WINDOW_SLICES)]
        self.floor = 0  # theoretical arrival time

    def current(self, length: int, now: int) -> _Slice:
        lap, place = divmod(now // length, WINDOW_SLICES)
        return self.slices[place].enter(lap & LAP_MASK)

    def window(self, length: int, now: int) -> tuple[int, int]:
        """(requests, retries) of the window that ends now."""
        lap, last = divmod(now // length, WINDOW_SLICES)
        valid = [s for place, s in enumerate(self.slices) if s.lap == (lap - (place > last)) & LAP_MASK]
        return sum(s.requests for s in valid), sum(s.retries for s in valid)


@dataclass(frozen=True, slots=True)
class _LocalClaims:
    claims: tuple[Claim, ...]


class LocalLedger:
    """The ledger in this process alone.  `now_ns`: CLOCK_MONOTONIC."""

    def __init__(self, now_ns: Callable[[], int], sizes: Sizes = Sizes()) -> None:
        self._now = now_ns
        self._sizes = sizes
        self._slots: dict[int, int] = {}
        self._tats: dict[int, int] = {}  # the one unused for longest is first
        self._budgets: dict[int, _Budget] = {}
        self._records: dict[int, tuple[int, bytes]] = {}
        self.pulse_cell = [0]
        self.full = 0

    @property
    def pulse(self) -> int:
        return self.pulse_cell[0]

    def prepare(self, claims: Sequence[Claim]) -> Prepared:
        taking_order(claims)
        return _LocalClaims(tuple(claims))

    def take(self, prepared: Prepared) -> int:
        now = self._now()
        undo: list[Callable[[], None]] = []
        for index in taking_order(prepared.claims):
            undone_by = self._take(prepared.claims[index], now)
            if undone_by is None:
                for put_back in reversed(undo):
                    put_back()
                return index
            undo.append(undone_by)
        return TAKEN

    def _take(self, claim: Claim, now: int) -> Callable[[], None] | None:
        """What undoes it; None when it is refused."""
        match claim:
            case Slot():
                return self._take_slot(claim)
            case Tokens():
                return self._take_token(claim, now)
            case BudgetRequest():
                return self._count_request(claim, now)
            case BudgetRetry():
                return self._take_retry(claim, now)

    def _take_slot(self, claim: Slot) -> Callable[[], None] | None:
        if claim.key not in self._slots and not self._room(self._slots, self._sizes.slots):
            return None
        held = self._slots.setdefault(claim.key, 0)
        if held >= claim.limit:
            return None
        self._slots[claim.key] = held + 1
        return lambda: self._give_slot(claim.key)

    def _give_slot(self, key: int) -> None:
        if held := self._slots.get(key, 0):
            self._slots[key] = held - 1

    def _room(self, table: dict[int, Any], size: int) -> bool:
        if len(table) < size:
            return True
        self.full += 1
        return False

    def _take_token(self, claim: Tokens, now: int) -> Callable[[], None] | None:
        tat = self._tats.pop(claim.key, 0)
        if len(self._tats) >= self._sizes.buckets:
            del self._tats[next(iter(self._tats))]
        most = tolerance(claim.period, claim.burst)
        period, leave = claim.period * claim.count, claim.period * claim.leave
        granted, self._tats[claim.key] = _token(tat, period, most, now, leave)
        return (lambda: self._put_back(claim)) if granted else None

    def _put_back(self, claim: Tokens) -> None:
        if claim.key in self._tats:
            self._tats[claim.key] = max(0, self._tats[claim.key] - claim.period * claim.count)

    def _budget(self, key: int) -> _Budget | None:
        if key not in self._budgets:
            if not self._room(self._budgets, self._sizes.budgets):
                return None
            self._budgets[key] = _Budget()
        return self._budgets[key]

    def _count_request(self, claim: BudgetRequest, now: int) -> Callable[[], None]:
        if (budget := self._budget(claim.key)) is not None:
            current = budget.current(slice_of(claim.interval), now)
            current.requests = min(current.requests + claim.count, COUNT_LIMIT)
        return lambda: None  # the last claims to be taken, and never refused

    def _take_retry(self, claim: BudgetRetry, now: int) -> Callable[[], None] | None:
        budget = self._budget(claim.key)
        if budget is None:
            return None
        period, most = floor_of(claim)
        granted, budget.floor = _token(budget.floor, period, most, now)
        length = slice_of(claim.interval)
        requests, retries = budget.window(length, now)
        if not granted and retries * 100 >= claim.percent * requests:
            return None
        current = budget.current(length, now)
        current.retries = min(current.retries + 1, COUNT_LIMIT)

        def undo() -> None:
            current.retries -= 1
            budget.floor = max(0, budget.floor - (period if granted else 0))

        return undo

    def give(self, prepared: Prepared) -> None:
        for claim in prepared.claims:
            if isinstance(claim, Slot):
                self._give_slot(claim.key)
            elif isinstance(claim, Tokens):
                self._put_back(claim)

    def wait(self, tokens: Tokens) -> int:
        most = tolerance(tokens.period, tokens.burst)
        return wait_of(self._tats.get(tokens.key, 0), tokens.period, most, self._now())

    def left(self, tokens: Tokens) -> int:
        most = tolerance(tokens.period, tokens.burst)
        return left_in(self._tats.get(tokens.key, 0), tokens.period, most, self._now())

    def held(self, slot: Slot) -> int:
        return self._slots.get(slot.key, 0)

    def read(self, key: int) -> tuple[int, bytes]:
        return self._records.get(key, (0, b""))

    def swap(self, key: int, version: int, content: bytes) -> bool:
        if len(content) > RECORD_BYTES:
            raise ValueError(f"a record of {len(content)} bytes; it holds at most {RECORD_BYTES}")
        if key not in self._records and not self._room(self._records, self._sizes.records):
            return False
        if self.read(key)[0] != version:
            return False
        self._records[key] = version + 1, content
        self.pulse_cell[0] += 1
        return True


def _token(tat: int, period: int, tolerance: int, now: int, leave: int = 0) -> tuple[bool, int]:
    """(granted, the bucket's new theoretical arrival time).  `leave`: of the tolerance, ns."""
    tat = min(tat, now + tolerance)  # a limit that was larger until now left an empty bucket, not a debt
    later = max(tat, now) + period
    return (True, later) if later - now + leave <= tolerance else (False, tat)
