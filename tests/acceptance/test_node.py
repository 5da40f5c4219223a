"""Acceptance of one node: one test per line, named by its rule, each printing its figure.

`make acceptance AREA=node` runs them all; they take minutes and want a quiet machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import churn, deaths, live_changes, transparency, upstream_idle
from tests.acceptance.figures import percentile, show
from tests.acceptance.shop import open_shop

REPOSITORY = Path(__file__).resolve().parents[2]


def test_03_a_change_is_in_force_within_100_ms_and_fails_no_request() -> None:
    with open_shop() as stand:
        result = live_changes.run(stand, changes=200, spacing=0.25)
    p99 = percentile(result.latencies, 0.99)
    p50 = percentile(result.latencies, 0.5)
    show(
        f"{len(result.latencies)} changes: p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms; "
        f"{result.responses} responses, {result.failed} failed, {result.stragglers} stragglers"
    )
    assert p99 <= 0.100
    assert result.failed == 0
    assert result.stragglers == 0


def test_03_the_first_rule_on_a_port_ends_its_direct_connections_within_a_second() -> None:
    with open_shop() as stand:
        drained = live_changes.first_rule_drains(stand, count=50)
    show(f"opened {drained.opened}, ended {drained.seen_ended}, counted {drained.counted}, {drained.seconds:.3f} s")
    assert drained.opened == drained.seen_ended == drained.counted
    assert drained.seconds <= 1.0


def test_04_a_pod_that_is_not_enrolled_sees_no_difference() -> None:
    with open_shop(start=False) as stand:
        without = transparency.table(stand, stand.plain, stand.v1.ipv4, stand.v1.ipv6, stream=10**9)
        stand.agent.start()
        beside = transparency.table(stand, stand.plain, stand.v1.ipv4, stand.v1.ipv6, stream=10**9)
    show(f"{len(without)} behaviours, {transparency.differences(without, beside)} differences")
    assert without == beside


def test_04_differences_on_the_proxied_rung_are_the_documented_ones() -> None:
    with open_shop(start=False) as stand:
        without = transparency.table(stand, stand.web, stand.v1.ipv4, stand.v1.ipv6, stream=10**7)
        transparency.proxy_every_port(stand)
        stand.agent.start()
        proxied = transparency.table(stand, stand.web, stand.v1.ipv4, stand.v1.ipv6, stream=10**7)
    found = transparency.differences(without, proxied)
    show(f"differences on rung 3: {found}")
    documented = (REPOSITORY / "docs/differences-on-the-proxied-rung.md").read_text(encoding="utf-8")
    assert [name for name in found if f"`{name}`" not in documented] == []


def test_04_bypass_restores_direct_traffic_within_a_second() -> None:
    with open_shop() as stand:
        seconds = transparency.time_to_bypass(stand)
    show(f"bypass on: direct after {seconds:.3f} s")
    assert seconds <= 1.0


def test_05_with_everything_killed_a_connect_does_what_its_namespace_says() -> None:
    with open_shop() as stand:
        result = deaths.everything_killed(stand, count=200)
    show(
        f"Open: {result.open_outcomes}, kernel counted {result.open_counted}; "
        f"Closed: {result.closed_outcomes}, kernel counted {result.closed_counted}; "
        f"direct held: {result.held_alive}; counters that decreased: {result.decreased}"
    )
    assert result.open_outcomes == {"ok": 200}
    assert result.open_counted == 200
    assert result.closed_outcomes == {"ECONNREFUSED": 200}
    assert result.closed_counted == 200
    assert result.held_alive == "alive 10"
    assert result.decreased == []


def test_05_a_killed_worker_is_replaced_within_a_second_and_costs_others_nothing() -> None:
    with open_shop(workers=2) as stand:
        result = deaths.worker_killed(stand)
    show(f"replaced after {result.seconds:.3f} s; errors on the other worker's connections: {result.other_errors}")
    assert result.seconds <= 1.0
    assert result.other_errors == 0


def test_05_a_stopped_worker_is_avoided_then_replaced() -> None:
    with open_shop(workers=2) as stand:
        result = deaths.worker_stopped(stand)
    show(f"no new connection hangs after {result.avoided_s:.2f} s; replaced after {result.replaced_s:.2f} s")
    assert result.avoided_s <= 2.5
    assert result.replaced_s <= 10


def test_05_a_busy_machine_is_no_failover() -> None:
    with open_shop(workers=2) as stand:
        bypassed, restarts = deaths.busy_machine(stand, seconds=60)
    show(f"60 s at 100 % CPU: {bypassed} bypasses, {restarts} worker restarts")
    assert (bypassed, restarts) == (0, 0)


def test_05_no_counter_decreases_when_a_route_goes_and_comes_back() -> None:
    with open_shop() as stand:
        decreased = deaths.route_recreated(stand)
    show(f"counters that decreased: {decreased}")
    assert decreased == []


def test_08_twenty_thousand_closed_connections_to_each_of_three_services() -> None:
    with open_shop() as stand:
        results = churn.many_connections(stand, count=20_000, seconds=40)
    show(f"{results}")
    for counts in results:
        assert counts.pop("seconds") <= 45
        assert counts == {"ok": 20_000}


def test_08_one_source_port_to_two_services_works_or_goes_direct_counted() -> None:
    with open_shop() as stand:
        outcomes, bypassed = churn.one_source_port(stand)
    show(f"outcomes {outcomes}, counted direct {bypassed}")
    assert outcomes == ["200", "200"]


def test_09_replacing_all_endpoints_under_load_breaks_no_connect() -> None:
    with open_shop() as stand:
        result = churn.endpoints_replaced(stand, times=1000, rate=2000)
    show(
        f"{result.replaced} replacements under {result.rate:.0f} connects/s: {result.connects} connects, "
        f"{result.errors} errors, {result.late} to a removed endpoint"
    )
    assert result.replaced == 1000
    assert result.errors == 0
    assert result.late == 0
    assert result.rate >= 1900


def test_10_an_upstream_that_closes_early_costs_no_get_and_no_more_posts_than_direct() -> None:
    with open_shop() as stand:
        result = upstream_idle.run(stand, seconds=40)
    show(f"{result}")
    assert result.mesh_get_failed == 0
    assert result.mesh_post_failed <= result.direct_post_failed


@pytest.fixture(autouse=True)
def _pause_between() -> Iterator[None]:
    """TIME_WAIT and CPU of one line must not colour the next."""
    yield
    time.sleep(0.5)
