"""Which tables take all their memory at once: the fewest that the kernel accepts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from nodeagent.core.ledger import TAKEN, BudgetRequest, Slot
from nodeagent.kernel import bpf_map, layout, loader
from nodeagent.kernel.bpf_map import MAP_TYPE_HASH, MAP_TYPE_PERCPU_HASH
from nodeagent.kernel.bytecode import Bytecode
from nodeagent.kernel.hooks import RUNNABLES
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.ledger import KernelLedger
from nodeagent.kernel.ledger_keeper import LedgerKeeper
from nodeagent.kernel.maps import Maps

ALWAYS = {layout.SLOTS}
LEDGER = {*ALWAYS, layout.BUDGETS, layout.RECORDS}


@pytest.fixture
def pins() -> Iterator[Layout]:
    made = Layout(Path("/sys/fs/bpf/nat-preallocation"))
    for directory in made.directories():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    yield made
    shutil.rmtree(made.bpffs)


def at_once(maps: Mapping[str, bpf_map.MapSpec]) -> set[str]:
    """Of the hashes that need not be preallocated: names of those that are."""
    hashes = {name: spec for name, spec in maps.items() if spec.map_type in (MAP_TYPE_HASH, MAP_TYPE_PERCPU_HASH)}
    return {name for name, spec in hashes.items() if not spec.flags & bpf_map.F_NO_PREALLOC}


def opened(bytecode: Bytecode, pins: Layout, stack: ExitStack) -> dict[str, int]:
    fds = loader.open_maps(bytecode, pins, 1024)
    stack.callback(loader.close_all, fds)
    return fds


def specs(fds: Mapping[str, int]) -> dict[str, bpf_map.MapSpec]:
    return {name: bpf_map.map_info(fd) for name, fd in fds.items()}


def pretend(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((real[0], real[1], release, real[3], real[4])))


@pytest.mark.parametrize(
    ("kernel", "expected"), [((0, 0), LEDGER), ((5, 19), LEDGER), ((6, 0), LEDGER), ((6, 1), ALWAYS), ((7, 0), ALWAYS)]
)
def test_what_sleepable_programs_use_is_preallocated_before_linux_6_1_and_slots_always_are(
    bytecode: Bytecode, kernel: tuple[int, int], expected: set[str]
) -> None:
    made = loader.maps_for(bytecode, kernel)
    assert at_once({spec.name: spec for spec in made}) == expected
    assert [spec for spec in made if spec.name not in expected] == [
        spec for spec in bytecode.maps if spec.name not in expected
    ]


@pytest.mark.parametrize(("release", "expected"), [("6.0.19-generic", LEDGER), ("6.1.0-32-amd64", ALWAYS)])
def test_maps_are_made_as_the_running_kernel_takes_them_and_the_ledger_works_on_them(
    bytecode: Bytecode, pins: Layout, monkeypatch: pytest.MonkeyPatch, release: str, expected: set[str]
) -> None:
    pretend(monkeypatch, release)
    with ExitStack() as stack:
        fds = opened(bytecode, pins, stack)
        assert at_once(specs(fds)) == expected
        programs = {one.name: loader.load(one, bytecode, fds) for one in RUNNABLES}
        stack.callback(loader.close_all, programs)
        keeper = LedgerKeeper(stack.enter_context(Maps(pins)), programs)
        stack.callback(keeper.close)
        ledger = KernelLedger(keeper.fds(), 0)
        claims = [ledger.prepare((Slot(key, 1), BudgetRequest(key, 10**9))) for key in range(1, 1001)]
        assert {ledger.take(one) for one in claims} == {TAKEN}
        assert all(ledger.swap(key, 0, b"kept") for key in range(1, 1001))
        assert ledger.full == 0, "a burst of new keys must not run out of what the kernel keeps ready"


def test_pinned_tables_of_an_earlier_run_are_taken_over_as_they_are(
    bytecode: Bytecode, pins: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        with monkeypatch.context() as earlier:
            pretend(earlier, "6.0.0")
            before = {name: bpf_map.map_id(fd) for name, fd in opened(bytecode, pins, stack).items()}
        pretend(monkeypatch, "6.1.0")
        fds = opened(bytecode, pins, stack)
        assert {name: bpf_map.map_id(fd) for name, fd in fds.items()} == before
        assert at_once(specs(fds)) == LEDGER
