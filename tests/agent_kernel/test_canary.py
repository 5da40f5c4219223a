"""Readiness is tried: the canary's connects tell attached hooks from hooks that act, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from nodeagent.agent.canary import PERIOD_SECONDS
from nodeagent.core import canary
from nodeagent.kernel import abi, bpf, layout, loader, syscall
from nodeagent.kernel.bytecode import compile_in_child
from nodeagent.kernel.instance import ORIG_LIMIT, Instance, Programs
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.links import pinned_link
from nodeagent.kernel.maps import Maps
from tests.acceptance.shop import Shop, open_shop

TARGET = bytes(abi.DestKey(abi.make_addr(canary.ADDRESS), abi.wire_port(canary.PORT), 0))


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with open_shop() as made:
        yield made


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def why(shop: Shop) -> str:
    """ "" = ready."""
    status, text = shop.agent.admin("/readyz")
    return "" if status == 200 else text.decode()


def canary_cgroups(shop: Shop) -> list[str]:
    return [path.name for path in shop.bed.cgroup.rglob("*-canary")]


@contextmanager
def connect4_of_other_maps(shop: Shop) -> Iterator[None]:
    """The link is there, and what it runs is not the agent's."""
    other = shop.bed.bpffs / "other"
    link = syscall.obj_get(Layout(shop.bed.bpffs).link("connect4"))
    ours = bpf.prog_by_id(pinned_link(Layout(shop.bed.bpffs).link("connect4"))[0])
    instance = Instance(shop.bed.cgroup, other)
    instance.layout.bpffs.mkdir()
    for directory in instance.layout.directories():
        directory.mkdir(parents=True, exist_ok=True)
    try:
        with _programs(instance) as fds:
            bpf.link_update(link, fds["connect4"])
            yield
            bpf.link_update(link, ours)
    finally:
        os.close(link)
        os.close(ours)
        instance.detach()


@contextmanager
def _programs(instance: Instance) -> Iterator[dict[str, int]]:
    code = compile_in_child()
    maps = loader.open_maps(code, instance.layout, ORIG_LIMIT)
    try:
        with Programs.load(code, maps) as programs:
            yield dict(programs.fds)
    finally:
        loader.close_all(maps)


def test_a_hook_that_is_attached_and_reads_other_maps_is_seen_within_the_period(shop: Shop) -> None:
    assert why(shop) == ""
    with connect4_of_other_maps(shop):
        until(lambda: "do not act on this agent's maps" in why(shop), PERIOD_SECONDS + 2)
    until(lambda: why(shop) == "", PERIOD_SECONDS + 2)


def test_rows_that_were_deleted_are_written_again_and_nobody_is_told(shop: Shop) -> None:
    with Maps(Layout(shop.bed.bpffs)) as maps:
        maps.map(layout.DESTINATIONS).delete(TARGET)
        until(lambda: maps.map(layout.DESTINATIONS).lookup(TARGET) is not None, PERIOD_SECONDS + 2)
    assert why(shop) == ""


def test_a_canary_whose_process_died_is_replaced(shop: Shop) -> None:
    [cgroup] = shop.bed.cgroup.rglob("*-canary")
    [pid] = (cgroup / "cgroup.procs").read_text().split()
    os.kill(int(pid), signal.SIGKILL)
    until(lambda: (cgroup / "cgroup.procs").read_text().split() not in ([], [pid]), PERIOD_SECONDS + 20)
    until(lambda: why(shop) == "", PERIOD_SECONDS + 5)


def test_its_connects_are_in_no_counter_that_users_see(shop: Shop) -> None:
    time.sleep(PERIOD_SECONDS + 1)
    with Maps(Layout(shop.bed.bpffs)) as maps:
        assert [row for row in maps.connections() if not row.workload and row.opened] == []
        raw = maps.map(layout.CONNECTIONS).items()
        assert any(key.startswith(canary.ID.to_bytes(4, "little")) for key in raw), "it made none"
    text = str(shop.agent.metrics())
    assert canary.ADDRESS not in text


def test_a_detached_link_is_seen_and_said(shop: Shop) -> None:
    link = syscall.obj_get(Layout(shop.bed.bpffs).link("connect4"))
    try:
        bpf.link_detach(link)
    finally:
        os.close(link)
    until(lambda: "the connect hooks are not attached" in why(shop), PERIOD_SECONDS)


def test_nothing_of_it_stays_when_the_agent_stops(shop: Shop) -> None:
    assert canary_cgroups(shop)
    shop.agent.stop()
    assert canary_cgroups(shop) == []
    with Maps(Layout(shop.bed.bpffs)) as maps:
        assert maps.map(layout.DESTINATIONS).lookup(TARGET) is None
