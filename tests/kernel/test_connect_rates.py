"""Connections per time to one Service: judged at connect(), for all callers of the node together."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from nodeagent.core.model import Action, Destination
from nodeagent.core.traffic import ConnectionRate, Limit, Mode
from nodeagent.kernel import abi, layout
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.bytecode import Bytecode
from nodeagent.kernel.instance import Instance
from nodeagent.kernel.sync import KernelSync
from tests.kernel.build import policy, routed, service
from tests.kernel.conftest import Node

HOUR = 3_600_000
SLOW = ConnectionRate("shop/slow", Limit(1, HOUR, 3))

# Connect `times` times as fast as it goes: how many got each errno, and the seconds that it took.
MANY = """
import time
def many(address, port, times=10**9, seconds=10.0):
    counts, began = {}, time.monotonic()
    while times and time.monotonic() - began < seconds:
        times -= 1
        s = socket.socket(family_of(address))
        s.settimeout(5)
        number = s.connect_ex((address, port))
        s.close()
        counts[number] = counts.get(number, 0) + 1
    return [counts, time.monotonic() - began]
"""


def tries(node: Node, vip: str, times: int, port: int = 80) -> dict[str, int]:
    node.client(MANY)
    counts, _seconds = node.client(f"many({vip!r}, {port}, {times})")
    return {str(number): count for number, count in counts.items()}


def limited(node: Node, name: str, rate: ConnectionRate = SLOW) -> Destination:
    port = node.backend("listen('0.0.0.0')")
    made = service(name, node.vip(), (node.server.ipv4, port), connection_rate=rate)
    node.configure(made)
    return made


def test_over_the_limit_connect_is_refused_and_counted_with_the_policy(node: Node) -> None:
    made = limited(node, "rated")
    assert tries(node, made.address, 10) == {"0": 3, "111": 7}
    assert node.counts(made.name) == {Outcome.DIRECT: 3, Outcome.RATE_LIMITED: 7}
    rules = {row.rule for row in node.maps.connections() if row.outcome is Outcome.RATE_LIMITED}
    assert rules == {"shop/slow"}


def test_at_full_speed_no_more_connections_pass_than_burst_and_rate_times_the_time(node: Node) -> None:
    made = limited(node, "fast", ConnectionRate("shop/fast", Limit(50, 1000, 5)))
    node.client(MANY)
    began = time.monotonic()
    counts, seconds = node.client(f"many({made.address!r}, 80, seconds=1.0)")
    assert counts["111"] > counts["0"]
    assert 5 + 50 * seconds * 0.5 <= counts["0"] <= 5 + 50 * (time.monotonic() - began)  # the machine may be busy


def test_in_dry_run_every_connection_passes_and_those_over_the_limit_are_counted_beside(node: Node) -> None:
    made = limited(node, "dry", replace(SLOW, mode=Mode.DRY_RUN))
    assert tries(node, made.address, 5) == {"0": 5}
    assert node.counts(made.name) == {Outcome.DIRECT: 5, Outcome.WOULD_RATE_LIMIT: 2}


@pytest.mark.parametrize(("mode", "tries_left"), [(Mode.DRY_RUN, 3), (Mode.ENFORCE, 1)])
def test_a_caller_that_would_be_denied_takes_nothing_of_a_limit_in_dry_run(
    node: Node, mode: Mode, tries_left: int
) -> None:
    made = limited(node, f"unmet-{mode.value.lower()}", replace(SLOW, mode=mode))
    tried = replace(policy("d", Action.DENY, "shop/web-sa"), dry_run=True)
    node.configure(replace(made, policies=(tried,)))
    assert tries(node, made.address, 2) == {"0": 2}
    node.configure(made)
    tries(node, made.address, 4)
    over = Outcome.WOULD_RATE_LIMIT if mode is Mode.DRY_RUN else Outcome.RATE_LIMITED
    counted = node.counts(made.name)
    assert (counted[Outcome.WOULD_DENY], counted[over]) == (2, 4 - tries_left)


def test_both_families_of_a_service_share_its_limit(node: Node) -> None:
    vip, vip6 = node.vip(), node.vip6()
    port, port6 = node.backend("listen('0.0.0.0')"), node.backend("listen('::')")
    node.configure(
        service("dual", vip, (node.server.ipv4, port), connection_rate=SLOW),
        service("dual", vip6, (node.server.ipv6, port6), connection_rate=SLOW),
    )
    assert tries(node, vip, 2) == {"0": 2}
    assert tries(node, vip6, 2) == {"0": 1, "111": 1}
    assert tries(node, f"::ffff:{vip}", 1) == {"111": 1}


def test_a_denied_caller_takes_nothing_of_the_limit(node: Node) -> None:
    made = limited(node, "denied-first")
    node.configure(replace(made, policies=(policy("d", Action.DENY, "shop/web-sa"),)))
    assert tries(node, made.address, 5) == {"1": 5}
    node.configure(made)
    assert tries(node, made.address, 4) == {"0": 3, "111": 1}


def test_proxied_connections_count_too(node: Node) -> None:
    vip, port = node.vip(), node.backend("listen('0.0.0.0')")
    node.configure(routed("routed", vip, (node.server.ipv4, port), connection_rate=SLOW))
    node.start_worker()
    assert tries(node, vip, 5) == {"0": 3, "111": 2}
    assert node.counts("shop/routed:80") == {Outcome.PROXIED: 3, Outcome.RATE_LIMITED: 2}


@pytest.mark.parametrize("change", [{"limit": Limit(1, HOUR, 4)}, {"policy": "shop/other"}])
def test_a_changed_limit_goes_on_where_the_one_before_was(node: Node, change: dict[str, object]) -> None:
    made = limited(node, f"changed-{next(iter(change))}")
    assert tries(node, made.address, 4) == {"0": 3, "111": 1}
    node.configure(replace(made, connection_rate=replace(SLOW, **change)))  # type: ignore[arg-type]
    expected = {"0": 1, "111": 2} if "limit" in change else {"111": 3}
    assert tries(node, made.address, 3) == expected


def test_the_bucket_outlives_an_agent_and_goes_with_the_limit(node: Node, bytecode: Bytecode) -> None:
    made = limited(node, "outlives")
    rates = node.maps.map(layout.CONNECT_RATES)
    assert tries(node, made.address, 3) == {"0": 3}
    Instance(node.bed.cgroup, node.bed.bpffs).attach(bytecode=bytecode)
    node.kernel = KernelSync(node.maps)  # another agent's
    node.sync()
    assert tries(node, made.address, 1) == {"111": 1}
    dests = {abi.Dest.from_buffer_copy(value).flags for value in node.maps.map(layout.DESTINATIONS).items().values()}
    assert abi.DEST_FRONTEND | abi.DEST_RATE in dests
    node.configure(replace(made, connection_rate=None))
    assert rates.items() == {}
    assert tries(node, made.address, 3) == {"0": 3}
