"""The kernel's ledger: the same verdicts as the one of one process, exact under concurrency, and nothing leaks."""

from __future__ import annotations

import itertools
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeagent.core.ledger import (
    MAX_CLAIMS,
    RECORD_BYTES,
    TAKEN,
    BudgetRequest,
    BudgetRetry,
    Claim,
    LocalLedger,
    Sizes,
    Slot,
    Tokens,
    ledger_key,
)
from nodeagent.kernel import abi, layout, loader
from nodeagent.kernel.bytecode import Bytecode
from nodeagent.kernel.hooks import RUNNABLES
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.ledger import KernelLedger
from nodeagent.kernel.ledger_keeper import LedgerKeeper
from nodeagent.kernel.maps import Maps

SECOND = 1_000_000_000
FOREVER = 1 << 58  # ns: nothing is refilled, and no slice ends, while tests run
REPOSITORY = Path(__file__).resolve().parents[2]
_keys = itertools.count(1)


@dataclass
class Ledgers:
    """Maps and programs of their own; `of(worker)` is that worker's view."""

    maps: Maps
    keeper: LedgerKeeper

    def of(self, worker: int) -> KernelLedger:
        return KernelLedger(self.keeper.fds(), worker)

    def held_per_worker(self, key: int) -> tuple[int, list[int]]:
        raw = self.maps.map(layout.SLOTS).lookup(key.to_bytes(8, sys.byteorder))
        slots = abi.Slots.from_buffer_copy(raw or bytes(136))
        return slots.total, list(slots.held)


def make(bytecode: Bytecode, pins: Layout) -> Iterator[Ledgers]:
    for directory in pins.directories():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fds = loader.open_maps(bytecode, pins, 1024)
        programs = {one.name: loader.load(one, bytecode, fds) for one in RUNNABLES}
        with Maps(pins) as maps:
            keeper = LedgerKeeper(maps, programs)
            yield Ledgers(maps, keeper)
            keeper.close()
        loader.close_all(programs)
        loader.close_all(fds)
    finally:
        shutil.rmtree(pins.bpffs)


@pytest.fixture(scope="module")
def ledgers(bytecode: Bytecode) -> Iterator[Ledgers]:
    yield from make(bytecode, Layout(Path("/sys/fs/bpf/nat-ledger")))


@pytest.fixture
def small(bytecode: Bytecode) -> Iterator[Ledgers]:
    """Tables of four keys."""
    tables = (layout.SLOTS, layout.BUDGETS, layout.RECORDS)
    maps = tuple(replace(spec, max_entries=4) if spec.name in tables else spec for spec in bytecode.maps)
    yield from make(replace(bytecode, maps=maps), Layout(Path("/sys/fs/bpf/nat-ledger-small")))


def take(ledger: KernelLedger | LocalLedger, *claims: Claim) -> int:
    return ledger.take(ledger.prepare(claims))


def new_key() -> int:
    return ledger_key(str(os.getpid()), str(next(_keys)))


# ---- the same as in one process ----

KEYS = st.integers(1, 3)
CLAIMS = st.one_of(
    st.builds(Slot, KEYS, st.integers(0, 4)),
    st.builds(Tokens, st.integers(1, 2), st.just(FOREVER), st.sampled_from([1, 2, 3, 1 << 40])),
    st.just(Tokens(3, 1, 1 << 40)),
    st.builds(Tokens, st.just(2), st.just(FOREVER // 16), st.just(16), st.integers(1, 9), st.integers(0, 16)),
    st.builds(BudgetRequest, KEYS, st.just(FOREVER), st.integers(1, 5)),
    st.builds(BudgetRetry, KEYS, st.just(FOREVER), st.integers(0, 300), st.integers(0, 2), st.just(FOREVER)),
)
TOGETHER = st.lists(CLAIMS, max_size=MAX_CLAIMS)


@given(st.lists(st.tuples(st.booleans(), TOGETHER), max_size=12))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_kernel_and_the_reference_give_the_same_verdicts(
    ledgers: Ledgers, steps: list[tuple[bool, list[Claim]]]
) -> None:
    kernel, local = ledgers.of(3), LocalLedger(time.monotonic_ns)
    own = {key: new_key() for key in (1, 2, 3)}  # unused so far, as everything is in the reference
    for gives, numbered in steps:
        claims = [replace(claim, key=own[claim.key]) for claim in numbered]
        prepared, reference = kernel.prepare(claims), local.prepare(claims)
        if gives:
            kernel.give(prepared)
            local.give(reference)
        else:
            assert kernel.take(prepared) == local.take(reference)
        for claim in claims:
            if isinstance(claim, Slot):
                assert kernel.held(claim) == local.held(claim)
            elif isinstance(claim, Tokens) and claim.period > 1:
                assert kernel.left(claim) == local.left(claim)
                assert (kernel.wait(claim) == 0) == (local.wait(claim) == 0)
    for key in own.values():
        total, held = ledgers.held_per_worker(key)
        assert total == sum(held) == held[3]


@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=20))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_records_behave_as_in_one_process(ledgers: Ledgers, steps: list[tuple[int, bytes]]) -> None:
    kernel, local = ledgers.of(0), LocalLedger(time.monotonic_ns)
    key, pulse = new_key(), kernel.pulse
    for version, content in steps:
        assert kernel.swap(key, version, content) == local.swap(key, version, content)
        assert kernel.read(key) == local.read(key)
        assert kernel.pulse - pulse == local.pulse


def test_a_limit_that_becomes_smaller_leaves_an_empty_bucket_and_no_debt(ledgers: Ledgers) -> None:
    kernel, key = ledgers.of(0), new_key()
    slow, quick = Tokens(key, 3600 * SECOND, 1000), Tokens(key, 20_000_000, 2)
    assert [take(kernel, slow) for _ in range(1001)] == [TAKEN] * 1000 + [0]
    assert take(kernel, quick) == 0
    assert 0 < kernel.wait(quick) <= 20_000_000
    time.sleep(0.025)
    assert [take(kernel, quick), take(kernel, quick)] == [TAKEN, 0]


def test_a_retry_that_is_undone_is_given_back_to_floor_and_share(ledgers: Ledgers) -> None:
    kernel, budget = ledgers.of(0), new_key()
    refusal = Slot(new_key(), 0)
    by_floor = BudgetRetry(budget, FOREVER, 0, 1, FOREVER)
    by_share = BudgetRetry(budget, FOREVER, 100, 0, FOREVER)
    for _ in range(3):
        assert take(kernel, by_floor, refusal) == 1
    assert [take(kernel, by_floor), take(kernel, by_floor)] == [TAKEN, 0]
    assert take(kernel, BudgetRequest(budget, FOREVER), BudgetRequest(budget, FOREVER)) == TAKEN
    for _ in range(3):
        assert take(kernel, by_share, refusal) == 1
    assert [take(kernel, by_share), take(kernel, by_share)] == [TAKEN, 0]  # with the floor's: two of two


def test_requests_and_retries_leave_the_window_after_its_interval(ledgers: Ledgers) -> None:
    kernel, key, interval = ledgers.of(0), new_key(), SECOND // 5
    retry = BudgetRetry(key, interval, 50, 0, SECOND)
    for _ in range(4):
        take(kernel, BudgetRequest(key, interval))
    assert [take(kernel, retry) for _ in range(3)] == [TAKEN, TAKEN, 0]
    time.sleep(interval / SECOND * 1.2)
    assert take(kernel, retry) == 0
    take(kernel, BudgetRequest(key, interval))
    assert [take(kernel, retry), take(kernel, retry)] == [TAKEN, 0]


# ---- exact, whoever runs at the same time ----


class Child:
    """A forked process that runs `work` and sends the number that it returns; `ready` is when it began."""

    def __init__(self, work: Callable[[], int]) -> None:
        ours, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.write(theirs, work().to_bytes(8, "little"))
                status = 0
            finally:
                os._exit(status)
        os.close(theirs)
        self._pipe = ours

    def result(self) -> int:
        data = os.read(self._pipe, 8)
        self._end()
        assert len(data) == 8, "the child failed"
        return int.from_bytes(data, "little")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._end()

    def _end(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self._pipe)


def count_grants(ledger: KernelLedger, claim: Claim, until: int) -> int:
    prepared = ledger.prepare((claim,))
    granted = 0
    while time.monotonic_ns() < until:
        granted += ledger.take(prepared) == TAKEN
    return granted


@pytest.mark.parametrize(("period", "burst"), [(SECOND // 100, 10), (SECOND // 50_000, 3)])
def test_two_processes_at_full_speed_get_what_the_bucket_grants_and_no_more(
    ledgers: Ledgers, period: int, burst: int
) -> None:
    tokens = Tokens(new_key(), period, burst)
    since = time.monotonic_ns()
    until = since + SECOND
    children = [Child(lambda worker=worker: count_grants(ledgers.of(worker), tokens, until)) for worker in (0, 1)]  # type: ignore[misc]
    granted = sum(child.result() for child in children)
    most = burst + (time.monotonic_ns() - since) // period
    assert granted <= most
    if period > SECOND // 1000:  # at the higher rate the machine may not keep up
        assert granted >= burst + 0.9 * SECOND / period


def test_two_processes_at_full_speed_share_a_retry_budget_exactly(ledgers: Ledgers) -> None:
    key = new_key()
    requests = ledgers.of(0).prepare((BudgetRequest(key, FOREVER),) * 8)
    for _ in range(500):
        assert ledgers.of(0).take(requests) == TAKEN
    retry = BudgetRetry(key, FOREVER, 20, 7, FOREVER)
    until = time.monotonic_ns() + SECOND // 4
    children = [Child(lambda worker=worker: count_grants(ledgers.of(worker), retry, until)) for worker in (0, 1)]  # type: ignore[misc]
    assert sum(child.result() for child in children) == 500 * 8 * 20 // 100


def test_a_slot_of_one_excludes_everybody_else(ledgers: Ledgers) -> None:
    slot, inside = Slot(new_key(), 1), mmap.mmap(-1, 4096)
    until = time.monotonic_ns() + SECOND // 2

    def enter(me: int) -> int:
        ledger = ledgers.of(me)
        prepared = ledger.prepare((slot,))
        entered = 0
        while time.monotonic_ns() < until:
            if ledger.take(prepared) != TAKEN:
                continue
            inside[me] = 1
            assert not inside[1 - me]
            inside[me] = 0
            ledger.give(prepared)
            entered += 1
        return entered

    children = [Child(lambda me=me: enter(me)) for me in (0, 1)]  # type: ignore[misc]
    assert all(child.result() for child in children)
    assert ledgers.held_per_worker(slot.key) == (0, [0] * 16)


def test_all_slots_are_used_and_none_above_the_limit(ledgers: Ledgers) -> None:
    slot = Slot(new_key(), 1000)
    until = time.monotonic_ns() + SECOND // 4
    children = [Child(lambda worker=worker: count_grants(ledgers.of(worker), slot, until)) for worker in (4, 5)]  # type: ignore[misc]
    taken = [child.result() for child in children]
    assert sum(taken) == slot.limit == ledgers.of(0).held(slot)
    assert ledgers.held_per_worker(slot.key)[1][4:6] == taken


def test_a_slot_given_back_twice_makes_no_room_that_is_not_there(ledgers: Ledgers) -> None:
    one, other, slot = ledgers.of(0), ledgers.of(1), Slot(new_key(), 2)
    assert take(one, slot) == take(other, slot) == TAKEN
    mine = one.prepare((slot,))
    one.give(mine)
    one.give(mine)
    assert ledgers.held_per_worker(slot.key)[0] == 1


def test_two_processes_that_replace_a_record_lose_no_update_and_read_no_half_of_one(ledgers: Ledgers) -> None:
    key, times = new_key(), 3000

    def add(worker: int) -> int:
        ledger = ledgers.of(worker)
        done = 0
        while done < times:
            version, content = ledger.read(key)
            assert len({content[i : i + 4] for i in range(0, len(content), 4)}) <= 1, "half of one record"
            count = int.from_bytes(content[:4], "little")
            done += ledger.swap(key, version, (count + 1).to_bytes(4, "little") * (RECORD_BYTES // 4))
        return done

    pulse = ledgers.of(0).pulse
    children = [Child(lambda worker=worker: add(worker)) for worker in (0, 1)]  # type: ignore[misc]
    assert [child.result() for child in children] == [times, times]
    version, content = ledgers.of(0).read(key)
    assert (version, int.from_bytes(content[:4], "little")) == (2 * times, 2 * times)
    assert ledgers.of(0).pulse - pulse == 2 * times


# ---- the dead, the unused, the full ----


def test_fifty_holders_killed_at_the_limit_leave_nothing_behind(ledgers: Ledgers) -> None:
    slots = tuple(Slot(new_key(), 20) for _ in range(12))
    bystander = ledgers.of(9)
    assert take(bystander, *slots[:8]) == TAKEN

    def hold() -> int:
        ledger = ledgers.of(2)
        prepared = [ledger.prepare((slot, Tokens(new_key(), 1, 1 << 40))) for slot in slots]
        while True:
            for one in prepared:
                while ledger.take(one) == TAKEN:
                    pass
            for one in prepared[::2]:
                ledger.give(one)

    for _ in range(50):
        child = Child(hold)
        deadline = time.monotonic() + 10
        while ledgers.of(0).held(slots[-1]) < 20:
            assert time.monotonic() < deadline
        time.sleep(random.random() / 1000)
        child.kill()
        totals = [ledgers.held_per_worker(slot.key) for slot in slots]
        assert all(total == sum(held) for total, held in totals)
        assert ledgers.keeper.reap(2) == sum(held[2] for _, held in totals)
    assert [ledgers.held_per_worker(slot.key)[0] for slot in slots] == [1] * 8 + [0] * 4
    assert ledgers.keeper.reap(9) == 8
    assert ledgers.keeper.reap(9) == 0


def test_a_full_table_refuses_new_keys_and_counts_it(small: Ledgers) -> None:
    kernel, local = small.of(0), LocalLedger(time.monotonic_ns, Sizes(4, 4, 4, 4))
    for ledger in (kernel, local):
        assert [take(ledger, Slot(key, 1)) for key in range(1, 6)] == [TAKEN] * 4 + [0]
        assert [take(ledger, BudgetRequest(key, SECOND)) for key in range(1, 6)] == [TAKEN] * 5
        assert take(ledger, BudgetRetry(5, SECOND, 100, 9, SECOND)) == 0
        assert [ledger.swap(key, 0, b"") for key in range(1, 6)] == [True] * 4 + [False]
        assert ledger.full == 4
        assert [take(ledger, Slot(1, 2)), take(ledger, Slot(1, 2), Slot(9, 1)), take(ledger, Slot(2, 2))] == [-1, 0, -1]


def test_entries_that_nothing_names_go_once_they_were_idle_twice(small: Ledgers) -> None:
    kernel = small.of(0)
    for key in (1, 2, 3):
        take(kernel, Slot(key, 1), BudgetRequest(key, SECOND))
        kernel.swap(key, 0, b"x")
    kernel.give(kernel.prepare((Slot(1, 1), Slot(2, 1))))
    assert small.keeper.forget_except({2}) == 0
    assert small.keeper.forget_except({2}) == 5  # of 1 all; of 3, which is held, budget and record
    assert [small.maps.map(name).count() for name in (layout.SLOTS, layout.BUDGETS, layout.RECORDS)] == [2, 1, 1]
    assert kernel.read(2) == (1, b"x")
    assert small.keeper.forget_except({2}) == 0


# ---- a worker as it is ----

CONFINED = """
import sys, time
from nodeagent.core.ledger import *
from nodeagent.kernel.ledger import KernelLedger, LedgerFds
from nodeagent.kernel import bpf_map
from nodeagent.proxy import sandbox
fds = LedgerFds.parse(sys.argv[1])
ledger = KernelLedger(fds, 7)
maps = [bpf_map.Map.from_fd(fd) for fd in (fds.slots, fds.buckets, fds.records)]
sandbox.confine_worker()
slot, tokens = Slot(1, 1), Tokens(2, 1 << 50, 3)
prepared = ledger.prepare((slot, tokens, BudgetRetry(3, 1 << 50, 20, 1, 1 << 50), BudgetRequest(3, 1 << 50)))
assert ledger.take(prepared) == -1
assert ledger.take(prepared) == 0
assert (ledger.held(slot), ledger.left(tokens), ledger.wait(tokens)) == (1, 2, 0)
ledger.give(prepared)
assert ledger.held(slot) == 0
assert ledger.read(4) == (0, b"")
assert ledger.swap(4, 0, b"kept") and not ledger.swap(4, 0, b"lost")
assert (ledger.read(4), ledger.pulse) == ((1, b"kept"), 1)
for table in maps:
    try:
        table.delete(bytes(8))
    except OSError as error:
        assert error.errno == 1
        continue
    raise AssertionError(f"{table.name} can be written")
"""


def test_a_confined_worker_can_claim_and_cannot_write_the_tables_past_the_programs(small: Ledgers) -> None:
    fds = small.keeper.fds()
    command = [sys.executable, "-c", CONFINED, str(fds)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=REPOSITORY, pass_fds=fds.passed(), timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
