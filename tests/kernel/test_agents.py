"""Agents that follow each other on the same pins: taken over, failed, refused, stopped and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from nodeagent.core.ledger import TAKEN, Slot, Tokens
from nodeagent.kernel import layout, syscall
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.hooks import RUNNABLES
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.ledger import KernelLedger
from nodeagent.kernel.ledger_keeper import LedgerKeeper
from nodeagent.kernel.maps import Maps
from tests.acceptance import shop as shops
from tests.acceptance.deaths import worker_pids
from tests.acceptance.shop import Shop
from tests.testbed.manifests import traffic_policy
from tests.testbed.shell import inside

# A successor whose version cannot be compiled on this node.
CANNOT_COMPILE = """
import sys
import nodeagent.kernel.instance
from nodeagent.kernel.bytecode import CompileError
def compile_in_child():
    raise CompileError("it does not compile here")
nodeagent.kernel.instance.compile_in_child = compile_in_child
import runpy
runpy.run_module("nodeagent", run_name="__main__")
"""

HOLD = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print(1, flush=True)
input()
"""


@pytest.fixture
def shop() -> Iterator[Shop]:
    """Its catalog has a route, so that it is on rung 3."""
    with shops.open_shop() as made:
        yield made


@pytest.fixture
def maps(shop: Shop) -> Iterator[Maps]:
    with Maps(Layout(shop.bed.bpffs)) as opened:
        yield opened


# The product's takes two minutes to forget.
SWEEPS_OFTEN = """
import nodeagent.agent.ledger_sweep
nodeagent.agent.ledger_sweep.SWEEP_SECONDS = 0.5
import runpy
runpy.run_module("nodeagent", run_name="__main__")
"""


@contextlib.contextmanager
def second_agent(shop: Shop, argv: Sequence[str], name: str = "agent2") -> Iterator[subprocess.Popen[bytes]]:
    """In a cgroup of its own, as another pod of a DaemonSet would be."""
    own = shop.bed.cgroup / name
    own.mkdir()
    log = (shop.bed.home / f"{name}.log").open("wb")
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    with (
        log,
        subprocess.Popen(
            inside(own, shop.agent.netns, argv),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def proxied(maps: Maps) -> int:
    found = [row for row in maps.connections() if row.destination == "shop/catalog:80"]
    return sum(row.opened for row in found if row.outcome is Outcome.PROXIED)


def test_in_a_takeover_from_another_cgroup_each_request_is_redirected_once(shop: Shop, maps: Maps) -> None:
    load = shop.program(shop.web, "connector", shop.bed.vip(1), 80, 1200, 200, "--request")
    before = maps.exempt_cgroups()
    with second_agent(shop, [*shop.agent.argv(), "--takeover"]) as successor:
        assert shop.agent.process is not None
        assert shop.agent.process.wait(15) == 0
        output, _ = load.communicate(timeout=30)
        assert successor.poll() is None
        deadline = time.monotonic() + 5
        while maps.exempt_cgroups() & before:
            assert time.monotonic() < deadline, "the old agent's cgroup stays exempt"
            time.sleep(0.1)
        assert maps.exempt_cgroups() == {(shop.bed.cgroup / "agent2").stat().st_ino}
    counts = json.loads(output)
    assert {name.partition("/")[0] for name in counts if name != "seconds"} == {"200"}, output
    assert proxied(maps) == 1200


@contextlib.contextmanager
def ledger_of(maps: Maps, worker: int) -> Iterator[KernelLedger]:
    """As the worker with this number would see it, by the pinned programs."""
    programs = {one.name: syscall.obj_get(maps.layout.prog(one.program)) for one in RUNNABLES}
    keeper = LedgerKeeper(maps, programs)
    try:
        yield KernelLedger(keeper.fds(), worker)
    finally:
        keeper.close()
        for fd in programs.values():
            os.close(fd)


def test_what_a_killed_worker_held_is_given_back_and_buckets_outlive_agents(shop: Shop, maps: Maps) -> None:
    slot, tokens = Slot(1, 5), Tokens(2, 1 << 50, 3)
    with ledger_of(maps, 0) as ledger:
        for _ in range(3):
            assert ledger.take(ledger.prepare((slot, tokens))) == TAKEN
        [victim] = worker_pids(shop)
        os.kill(victim, signal.SIGKILL)
        until(lambda: ledger.held(slot) == 0)
        assert ledger.left(tokens) == 0
        until(lambda: worker_pids(shop) not in ([], [victim]))
        assert shop.get(shop.web, shop.url(1)) == 200  # by a worker whose number this may have been
        assert ledger.take(ledger.prepare((slot,))) == TAKEN
    shop.agent.stop()
    shop.agent.start()
    with ledger_of(maps, 0) as ledger:
        assert (ledger.held(slot), ledger.left(tokens)) == (0, 0)


def test_a_takeover_leaves_the_ledger_to_the_successor(shop: Shop, maps: Maps) -> None:
    tokens = Tokens(2, 1 << 50, 1)
    with ledger_of(maps, 0) as ledger:
        assert ledger.take(ledger.prepare((tokens, Slot(1, 1)))) == TAKEN
        assert ledger.swap(3, 0, b"kept")
    with second_agent(shop, [*shop.agent.argv(), "--takeover"]):
        assert shop.agent.process is not None
        assert shop.agent.process.wait(30) == 0
        with ledger_of(maps, 1) as ledger:
            assert ledger.take(ledger.prepare((tokens,))) == 0
            assert ledger.read(3) == (1, b"kept")
            assert ledger.held(Slot(1, 1)) == 0  # its holder was a worker of the old agent


def test_entries_of_a_policy_that_went_are_forgotten_and_those_of_one_that_stays_are_not(
    shop: Shop, maps: Maps
) -> None:
    """Whether anything uses them or not: the policy that stays gets no request after the first."""
    shop.agent.stop()
    write = shop.bed.manifests.write
    fields = {"circuitBreaker": {"maxParallelRequests": 500}, "retry": {}}
    for number, name in ((1, "catalog"), (5, "raw")):
        write(f"5{number}.yaml", traffic_policy("shop", name, {"kind": "Service", "name": name, "group": ""}, **fields))
    shop.agent.main = ("-c", SWEEPS_OFTEN)
    shop.agent.start()
    tables = [maps.map(name) for name in (layout.SLOTS, layout.BUDGETS)]
    assert [shop.get(shop.web, shop.url(number)) for number in (1, 5)] == [200, 200]
    first = [set(table.items()) for table in tables]
    assert [len(keys) for keys in first] == [2, 2]
    time.sleep(2)
    assert [set(table.items()) for table in tables] == first
    shop.bed.manifests.remove("51.yaml")
    until(lambda: [table.count() for table in tables] == [1, 1])
    assert all(set(table.items()) < keys for table, keys in zip(tables, first, strict=True))
    shop.bed.manifests.remove("55.yaml")
    until(lambda: [table.count() for table in tables] == [0, 0])
    assert [shop.get(shop.web, shop.url(number)) for number in (1, 5)] == [200, 200]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_successor_that_cannot_compile_leaves_the_old_agent_at_work(shop: Shop, maps: Maps) -> None:
    before = maps.exempt_cgroups()
    _python, _m, _module, *arguments = shop.agent.argv()
    with second_agent(shop, [sys.executable, "-c", CANNOT_COMPILE, *arguments, "--takeover"]) as successor:
        assert successor.wait(15) == 1
    assert "it does not compile here" in (shop.bed.home / "agent2.log").read_text()
    assert shop.agent.process is not None
    assert shop.agent.process.poll() is None
    assert shop.get(shop.web, shop.url(1)) == 200
    assert maps.exempt_cgroups() == before


def test_a_second_agent_on_the_same_pins_is_refused_whatever_its_run_directory(shop: Shop) -> None:
    argv = shop.agent.argv()
    argv[argv.index("--run-dir") + 1] = str(shop.bed.home / "run2")
    with second_agent(shop, [*argv, "--takeover"]) as second:
        assert second.wait(15) == 1
    told = (shop.bed.home / "agent2.log").read_text()
    assert shop.agent.process is not None
    assert f"an agent with pid {shop.agent.process.pid} already works with the pins in {shop.bed.bpffs}" in told
    assert shop.get(shop.web, shop.url(1)) == 200


def test_an_agent_that_is_refused_for_its_cgroup_leaves_no_directory(shop: Shop) -> None:
    argv = shop.agent.argv()
    pins = shop.bed.bpffs.with_name(f"{shop.bed.bpffs.name}-2")
    argv[argv.index("--bpffs") + 1] = str(pins)
    argv[argv.index("--run-dir") + 1] = str(shop.bed.home / "run2")
    with second_agent(shop, argv) as second:
        assert second.wait(15) == 1
    assert "Another instance is attached" in (shop.bed.home / "agent2.log").read_text()
    assert not pins.exists()


def test_connections_made_while_the_agent_was_stopped_are_listed_when_it_is_back(shop: Shop, maps: Maps) -> None:
    shop.bed.manifests.write("40-deny.yaml", shops.deny("no-web", "catalog", "web"))
    shop.agent.stop()
    assert not maps.map(layout.PODS).items()
    argv = [sys.executable, "-S", "-c", HOLD, shop.v1.ipv4, str(shops.PORT)]
    held = shop.bed.popen(shop.web, argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    assert held.stdout.readline() == "1\n"
    shop.agent.start()
    rows = [row for row in maps.connections() if row.outcome is Outcome.UNPOLICED]
    assert [(row.workload, row.opened) for row in rows] == [("shop/web/web", 1)]
    held.communicate("x\n", timeout=5)


# ---- pods that surge ----


def standby_argv(shop: Shop, number: int) -> list[str]:
    """As the agent of the pod with this number: its volume and its address are its own."""
    argv = [*shop.agent.argv(), "--takeover", f"--stand-by={shop.bed.home / f'pod-{number}'}", "--keep-attached"]
    argv[argv.index("--metrics-address") + 1] = f"127.0.0.1:{15100 + number}"
    return argv


def probe(shop: Shop, number: int, path: str) -> tuple[str, str]:
    """(status, text) as the kubelet would get it."""
    url = f"http://127.0.0.1:{15100 + number}{path}"
    argv = ["nsenter", f"--net={shop.agent.netns}", "curl", "-sS", "-m", "5", "-w", "\n%{http_code}", url]
    text, _, status = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.rpartition("\n")
    return status, text


@contextlib.contextmanager
def surging_agent(shop: Shop, number: int) -> Iterator[subprocess.Popen[bytes]]:
    """Of a pod that is younger than those before; it works when this is entered."""
    with second_agent(shop, standby_argv(shop, number), f"agent{number}") as process:
        until(lambda: probe(shop, number, "/readyz")[0] == "200", 30)
        yield process


def test_an_agent_that_was_taken_over_stands_by_and_works_again_when_its_successor_is_gone(shop: Shop) -> None:
    shop.agent.stop()
    with surging_agent(shop, 1) as old:
        load = shop.program(shop.web, "connector", shop.bed.vip(1), 80, 1500, 200, "--request")
        with surging_agent(shop, 2) as new:
            until(lambda: "stands by" in probe(shop, 1, "/readyz")[1])
            assert probe(shop, 1, "/livez")[0] == "200"
            output, _ = load.communicate(timeout=60)
            assert {name.partition("/")[0] for name in json.loads(output) if name != "seconds"} == {"200"}, output
            new.kill()
            new.wait()
        until(lambda: probe(shop, 1, "/readyz")[0] == "200", 60)
        assert shop.get(shop.web, shop.url(1)) == 200
        old.terminate()
        assert old.wait(20) == 0


def test_a_container_that_is_started_again_in_an_older_pod_does_not_take_over_from_its_successor(shop: Shop) -> None:
    shop.agent.stop()
    with surging_agent(shop, 1) as old, surging_agent(shop, 2):
        old.kill()
        old.wait()
        with second_agent(shop, standby_argv(shop, 1), "agent1-again") as again:
            until(lambda: "stands by" in probe(shop, 1, "/readyz")[1])
            assert probe(shop, 2, "/readyz")[0] == "200"
            again.terminate()
            assert again.wait(10) == 0, "it had nothing to do"
        assert probe(shop, 2, "/readyz")[0] == "200"
