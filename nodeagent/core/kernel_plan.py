"""From what the maps hold to what they should hold: which writes, in which order, and what goes later.

A connect reads a destination first, then the endpoint set or verdict table that it names.  So sets
and tables are written before the destination that names them and never changed while it does; what
nothing names any more is deleted a moment later, when no connect can still be reading it.

Limits of connections are changed where they are: a connect that finds none goes on.  So they are written before the
destinations that name them, and go after.

A pod that leaves goes, or becomes one that is left alone, before destinations lose its verdicts; a
pod that comes, comes when every destination has its verdict.  Only a pod that becomes another one in
the same namespace (a changed service account or address) can be denied for the moment between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from nodeagent.core.kernel_state import Desired, DestFlag, DestinationEntry, PodEntry, RateEntry, VerdictEntry
from nodeagent.core.model import Endpoint

Target = tuple[str, int]
Table = dict[int, VerdictEntry]
Content = frozenset[tuple[int, VerdictEntry]]


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """An element of the map `destinations`.  Set and table 0 = none."""

    dest: int
    flags: DestFlag
    ep_set: int = 0
    ep_count: int = 0
    policy: int = 0


@dataclass(slots=True)
class Tables:
    """What the maps hold.  `next_id` is above every set and table id ever used.

    `users`, and the indexes by content `set_numbers` and `table_numbers`, are made by `plan`; what was read from maps
    has none.
    """

    pods: dict[int, PodEntry] = field(default_factory=dict)
    own_addresses: set[tuple[int, str]] = field(default_factory=set)
    destinations: dict[Target, DestinationRow] = field(default_factory=dict)
    endpoint_sets: dict[int, tuple[Endpoint, ...]] = field(default_factory=dict)
    verdict_tables: dict[int, Table] = field(default_factory=dict)
    rates: dict[int, RateEntry] = field(default_factory=dict)  # by the destination's id
    next_id: int = 1
    users: dict[int, int] = field(default_factory=dict, compare=False)  # set or table -> rows that name it
    set_numbers: dict[tuple[Endpoint, ...], int] = field(default_factory=dict, compare=False)
    table_numbers: dict[Content, int] = field(default_factory=dict, compare=False)


@dataclass(slots=True)
class Plan:
    """Writes in the order of the fields; `old_*` are deleted after the grace period."""

    new_own: set[tuple[int, str]] = field(default_factory=set)
    new_sets: dict[int, tuple[Endpoint, ...]] = field(default_factory=dict)
    new_verdicts: dict[tuple[int, int], VerdictEntry] = field(default_factory=dict)  # (table, pod id)
    rates: dict[int, RateEntry] = field(default_factory=dict)
    gone_pods: set[int] = field(default_factory=set)
    passing: dict[int, PodEntry] = field(default_factory=dict)  # pods that left the mesh, or never were in it
    destinations: dict[Target, DestinationRow] = field(default_factory=dict)
    gone_destinations: set[Target] = field(default_factory=set)
    gone_rates: set[int] = field(default_factory=set)
    pods: dict[int, PodEntry] = field(default_factory=dict)
    gone_own: set[tuple[int, str]] = field(default_factory=set)
    old_sets: dict[int, int] = field(default_factory=dict)  # set -> number of its endpoints
    old_verdicts: set[tuple[int, int]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__dataclass_fields__)

    def spare(self, after: Tables) -> None:
        """Of what waits to be deleted, keep what a later plan has put to use again."""
        for number in self.old_sets.keys() & after.endpoint_sets.keys():
            del self.old_sets[number]
        self.old_verdicts = {(n, pod) for n, pod in self.old_verdicts if pod not in after.verdict_tables.get(n, {})}


@dataclass(frozen=True, slots=True)
class _Freed:
    """Taken out of the tables, because it may change; what is wanted again comes back."""

    rows: dict[Target, DestinationRow]
    sets: dict[int, tuple[Endpoint, ...]]
    tables: dict[int, Table]
    rates: Collection[int]


def plan(tables: Tables, desired: Desired, left: Collection[Target] | None = None) -> Plan:
    """The writes.  `tables` are what the maps hold, and are brought up to what they hold after them.

    In place, since a copy would cost more than all else: a change meets one row of ten thousand.

    Without `left`, `desired` has everything.  With it, `desired` has the destinations that may differ from `tables`,
    which an earlier `plan` made, and `left` those that are gone: all others stay as they are.
    """
    out = Plan()
    freed = _free_all(tables) if left is None else _free(tables, {*desired.destinations, *left})
    _plan_pods(tables, desired, out)
    sets, policies = _SetPool(tables, out, freed), _TablePool(tables, out, freed)
    for target, entry in desired.destinations.items():
        before = freed.rows.get(target)
        row = tables.destinations[target] = _row(entry, before, sets, policies)
        for number in (row.ep_set, row.policy):
            tables.users[number] = tables.users.get(number, 0) + 1
        if before != row:
            out.destinations[target] = row
    out.gone_destinations = {target for target in freed.rows if target not in tables.destinations}
    _plan_rates(tables, desired, out, freed)
    _retire(tables, out, freed)
    return out


def _free_all(tables: Tables) -> _Freed:
    freed = _Freed(tables.destinations, tables.endpoint_sets, tables.verdict_tables, tables.rates.keys())
    tables.destinations, tables.endpoint_sets, tables.verdict_tables, tables.users = {}, {}, {}, {}
    return freed


def _free(tables: Tables, targets: Iterable[Target]) -> _Freed:
    """The rows at `targets`, and the sets and tables that only they named."""
    popped = ((target, tables.destinations.pop(target, None)) for target in targets)
    rows = {target: row for target, row in popped if row is not None}
    unnamed = _let_go(tables.users, (number for row in rows.values() for number in (row.ep_set, row.policy)))
    return _Freed(
        rows,
        {number: tables.endpoint_sets.pop(number) for number in unnamed & tables.endpoint_sets.keys()},
        {number: tables.verdict_tables.pop(number) for number in unnamed & tables.verdict_tables.keys()},
        tables.rates.keys() & {row.dest for row in rows.values()},
    )


def _let_go(users: dict[int, int], numbers: Iterable[int]) -> set[int]:
    """Those that nobody names any more."""
    unnamed = set[int]()
    for number in numbers:
        users[number] -= 1
        if not users[number]:
            del users[number]
            unnamed.add(number)
    return unnamed - {0}


def _plan_pods(tables: Tables, desired: Desired, out: Plan) -> None:
    out.new_own = set(desired.own_addresses - tables.own_addresses)
    out.gone_own = tables.own_addresses - desired.own_addresses
    written = {cookie: entry for cookie, entry in desired.pods.items() if tables.pods.get(cookie) != entry}
    out.passing = {cookie: entry for cookie, entry in written.items() if entry.passes}
    out.pods = {cookie: entry for cookie, entry in written.items() if not entry.passes}
    out.gone_pods = tables.pods.keys() - desired.pods.keys()
    tables.pods, tables.own_addresses = dict(desired.pods), set(desired.own_addresses)


def _plan_rates(tables: Tables, desired: Desired, out: Plan, freed: _Freed) -> None:
    """A rate whose destination is kept is kept.  Destinations of one id may be without: a Service's doors."""
    wanted = {entry.dest: entry.rate for entry in desired.destinations.values() if entry.rate is not None}
    gone = set(freed.rates)
    if gone:  # unless a row that was not met names it
        rows = (row for target, row in tables.destinations.items() if target not in desired.destinations)
        gone -= {row.dest for row in rows if DestFlag.RATE in row.flags}
    out.rates = {dest: rate for dest, rate in wanted.items() if tables.rates.get(dest) != rate}
    out.gone_rates = gone - wanted.keys()
    tables.rates = {dest: rate for dest, rate in tables.rates.items() if dest not in gone} | wanted


def _row(entry: DestinationEntry, before: DestinationRow | None, sets: _SetPool, tables: _TablePool) -> DestinationRow:
    endpoints = entry.endpoints or ()
    return DestinationRow(
        dest=entry.dest,
        flags=entry.flags,
        ep_set=sets.place(endpoints) if endpoints else 0,
        ep_count=len(endpoints),
        policy=tables.place(entry.verdicts, before.policy if before else 0) if entry.verdicts is not None else 0,
    )


class _SetPool:
    """Endpoint sets by content: an existing one is named again, another content is a new set."""

    def __init__(self, after: Tables, out: Plan, freed: _Freed) -> None:
        self._after, self._out = after, out
        if not after.set_numbers:
            there = {**after.endpoint_sets, **freed.sets}
            after.set_numbers = {content: number for number, content in there.items()}

    def place(self, endpoints: tuple[Endpoint, ...]) -> int:
        number = self._after.set_numbers.get(endpoints)
        if number is None:
            number = _take_id(self._after)
            self._after.set_numbers[endpoints] = number
            self._out.new_sets[number] = endpoints
        self._after.endpoint_sets[number] = endpoints
        return number


class _TablePool:
    """Verdict tables by content.  A table may get verdicts of new pods; one that is there never changes."""

    def __init__(self, after: Tables, out: Plan, freed: _Freed) -> None:
        self._after, self._out, self._freed = after, out, freed.tables
        self._placed: dict[int, int] = {}  # by the identity of what is wanted: destinations share it
        for number, table in freed.tables.items():
            content = frozenset(table.items())
            if after.table_numbers.get(content) == number:
                del after.table_numbers[content]

    def place(self, wanted: Mapping[int, VerdictEntry], before: int) -> int:
        number = self._placed.get(id(wanted))
        if number is None:
            number = self._placed[id(wanted)] = self._place(wanted, before)
        return number

    def _place(self, wanted: Mapping[int, VerdictEntry], before: int) -> int:
        content = frozenset(wanted.items())
        number = self._after.table_numbers.get(content)
        if number is None:
            number = before if self._can_extend(before, wanted) else _take_id(self._after)
            self._after.table_numbers[content] = number
            self._write(number, wanted)
        return number

    def _can_extend(self, number: int, wanted: Mapping[int, VerdictEntry]) -> bool:
        """Not if it is kept or another content has claimed it, or a verdict in it would have to change."""
        there = self._freed.get(number)
        if there is None or number in self._after.verdict_tables:
            return False
        return all(there.get(pod, verdict) == verdict for pod, verdict in wanted.items())

    def _write(self, number: int, wanted: Mapping[int, VerdictEntry]) -> None:
        there = self._freed.get(number, {})
        self._after.verdict_tables[number] = dict(wanted)
        for pod, verdict in wanted.items():
            if pod not in there:
                self._out.new_verdicts[number, pod] = verdict


def _take_id(after: Tables) -> int:
    number = after.next_id
    after.next_id += 1
    return number


def _retire(tables: Tables, out: Plan, freed: _Freed) -> None:
    for number, content in freed.sets.items():
        if number not in tables.endpoint_sets:
            out.old_sets[number] = len(content)
            if tables.set_numbers.get(content) == number:
                del tables.set_numbers[content]
    for number, table in freed.tables.items():
        left = tables.verdict_tables.get(number, {})
        out.old_verdicts |= {(number, pod) for pod in table.keys() - left.keys()}
