"""Acceptance of one node: one test per line, named by its rule, each printing its figure.

`make acceptance AREA=node` runs them all; they take minutes and want a quiet machine.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance import (
    bulk,
    churn,
    crowd,
    deaths,
    explained,
    framing,
    live_changes,
    live_saving,
    preflight_cases,
    saving,
    transparency,
    upstream_idle,
)
from tests.acceptance.figures import percentile, show
from tests.acceptance.manifests_broken import BROKEN
from tests.acceptance.shop import open_shop
from tests.proxy.corpus.paths import PATH_EVASIONS
from tests.proxy.corpus.requests import ACCEPTED_REQUESTS, MALFORMED_REQUESTS
from tests.proxy.corpus.responses import BAD_RESPONSES

REPOSITORY = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("ACCEPTANCE_SEED", "20260101"))  # of what is random; shown with each figure
SECTION = re.compile(r"((9110|9112|9113|6585|3986) )?\d")  # RFC 9112 where it names none


def test_01_the_demo_tells_its_whole_story_within_a_minute() -> None:
    start = time.monotonic()
    demo = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=REPOSITORY, capture_output=True, text=True, timeout=180, check=False
    )
    seconds = time.monotonic() - start
    last = demo.stdout.strip().splitlines()[-1:]
    show(f"exit {demo.returncode} after {seconds:.1f} s; it ends with {last}")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "NOT SO" not in demo.stdout
    assert seconds <= 60


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


def test_06_a_malformed_request_is_refused_and_never_seen_by_the_upstream() -> None:
    with open_shop() as stand:
        framing.prepare(stand)
        outcome = framing.run(stand, "malformed")
    show(f"{len(MALFORMED_REQUESTS)} malformed requests, {outcome.rows} ways to send them, wrong: {outcome.failed}")
    assert len(MALFORMED_REQUESTS) >= 60
    assert [row.name for row in MALFORMED_REQUESTS if not SECTION.match(row.section)] == []
    assert outcome.failed == {}


def test_06_a_malformed_or_desyncing_response_poisons_no_request() -> None:
    with open_shop() as stand:
        framing.prepare(stand)
        outcome = framing.run(stand, "responses")
    show(f"{len(BAD_RESPONSES)} bad responses, {outcome.rows} exchanges with them, wrong: {outcome.failed}")
    assert len(BAD_RESPONSES) >= 30
    assert [row.name for row in BAD_RESPONSES if not SECTION.match(row.section)] == []
    assert outcome.failed == {}


def test_06_h11_and_net_http_read_an_accepted_request_as_it_was_sent() -> None:
    with open_shop() as stand:
        framing.prepare(stand)
        outcome = framing.run(stand, "accepted")
    show(f"{len(ACCEPTED_REQUESTS)} good requests, {outcome.rows} ways to send them, wrong: {outcome.failed}")
    assert outcome.failed == {}


def test_06_no_spelling_of_a_path_passes_a_deny() -> None:
    with open_shop() as stand:
        framing.prepare(stand)
        outcomes = framing.paths(stand)
        control = framing.passing_without_a_rule(stand)
    failed = {rule: outcome.failed for rule, outcome in outcomes.items() if outcome.failed}
    show(f"{len(PATH_EVASIONS)} evasions x {list(outcomes)}, wrong: {failed}; without the rule {control} pass")
    assert len(PATH_EVASIONS) >= 40
    assert sorted(outcomes) == ["exact", "prefix", "regex"]
    assert failed == {}
    assert control >= 40


def test_06_no_spelling_of_a_host_header_or_method_passes_a_deny() -> None:
    with open_shop() as stand:
        framing.prepare(stand)
        outcomes = framing.tricks(stand)
    failed = {rule: outcome.failed for rule, outcome in outcomes.items() if outcome.failed}
    tricks = {rule: outcome.rows for rule, outcome in outcomes.items()}
    show(f"tricks by rule {tricks}, wrong: {failed}")
    assert failed == {}


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_07_ten_gigabytes_each_way_at_once_pass_whole_fast_and_in_little_memory(chunked: bool) -> None:
    with open_shop() as stand:
        bulk.prepare(stand)
        moved = bulk.both_ways(stand, size=10**10, chunked=chunked)
    show(
        f"up {moved.up_mb_s:.0f} MB/s, down {moved.down_mb_s:.0f} MB/s, together {moved.total_mb_s:.0f} MB/s; "
        f"sha256 of all bytes at each receiver equal: {moved.intact}; worker RSS +{moved.rss_growth / 1e6:.1f} MB"
    )
    assert moved.intact
    assert moved.rss_growth <= 8e6
    assert moved.total_mb_s >= 300


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_07_a_client_that_stops_reading_stops_the_upstream_within_8_mb(chunked: bool) -> None:
    with open_shop() as stand:
        bulk.prepare(stand)
        stopped = bulk.stopped_reader(stand, size=10**9, chunked=chunked)
    left = stopped.written - stopped.unsent - stopped.read
    show(
        f"the client read {stopped.read / 1e6:.1f} MB, the upstream gave away {left / 1e6:.1f} MB more "
        f"and has {stopped.unsent / 1e6:.1f} MB in its own kernel"
    )
    assert left <= 8e6


def test_07_idle_and_slow_connections_of_one_pod_do_not_slow_another() -> None:
    with open_shop() as stand:
        crowd.prepare(stand)
        result = crowd.measure(stand, idle=2000, slow=200)
    show(
        f"p99 alone {result.alone_p99_s * 1e3:.2f} ms, beside {result.connections} connections "
        f"{result.crowded_p99_s * 1e3:.2f} ms: x{result.ratio:.2f} (control x{result.control:.2f}), "
        f"medians of {result.rounds} rounds"
    )
    assert result.connections >= 2200
    assert result.idle_ended == 0
    assert abs(result.control - 1) <= crowd.NOISE, "the machine is too busy to tell"
    assert result.ratio <= 1.2


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


def test_11_the_preflight_says_nothing_where_nothing_is_wrong() -> None:
    outcome = preflight_cases.as_it_is()
    show(f"doctor --pre: exit {outcome.code}, {len(outcome.stdout.splitlines())} lines")
    assert outcome == (0, "")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (preflight_cases.without_root, ("root", "sudo")),
        (preflight_cases.without_bpffs, ("bpffs", "mount")),
        (preflight_cases.without_bcc, ("python3-bpfcc", "apt")),
        (preflight_cases.with_impostor, ("PyPI", "uninstall")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_11_the_preflight_names_what_is_missing_and_how_to_fix_it(
    case: Callable[[], preflight_cases.Outcome], words: tuple[str, str]
) -> None:
    outcome = case()
    show(f"{case.__name__}: exit {outcome.code}; {preflight_cases.fixes(outcome.stdout)}")
    assert outcome.code == 1
    assert preflight_cases.unactionable(outcome.stdout) == []
    assert preflight_cases.fixes(outcome.stdout)
    for word in words:
        assert word in outcome.stdout


def test_11_what_the_preflight_advises_about_bpffs_works() -> None:
    [fix] = preflight_cases.fixes(preflight_cases.without_bpffs().stdout)
    show(f"advised: {fix}")
    assert preflight_cases.without_bpffs(fix) == (0, "")


@pytest.mark.parametrize("style", saving.STYLES)
def test_12_no_request_is_unpoliced_while_the_file_of_its_policy_is_saved(style: str) -> None:
    with open_shop(start=False) as stand:
        stand.bed.manifests.write_text(live_saving.POLICY, live_saving.policy_text(0))
        saved = live_saving.saved_under_load(stand, style, saves=100, seed=SEED)
    show(
        f"{style}: {saved.saves} saves, {saved.generations} configurations, {saved.requests} requests, "
        f"{saved.connects} connects, {saved.unpoliced} unpoliced (seed {SEED})"
    )
    assert saved.generations >= 10
    assert saved.requests >= 1000
    assert saved.connects >= 1000
    assert saved.unpoliced == 0


def test_12_a_broken_manifest_gives_one_line_and_changes_nothing_else() -> None:
    with open_shop(start=False) as stand:
        stand.bed.manifests.write_text(live_saving.POLICY, live_saving.policy_text(0))
        stand.agent.start()
        wrong: dict[str, list[str]] = {}
        for broken in BROKEN:
            found = live_saving.said_about(stand, broken)
            wrong[broken.name] = live_saving.unsaid(broken, found)
            if not live_saving.rest_in_force(stand):
                wrong[broken.name].append("the rest of the configuration is not in force")
    wrong = {name: faults for name, faults in wrong.items() if faults}
    show(f"{len(BROKEN)} broken manifests, wrong: {wrong}")
    assert len(BROKEN) >= 30
    assert wrong == {}


def test_12_the_share_of_a_missing_service_gets_500_and_its_route_is_accepted() -> None:
    share = 0.3
    with open_shop() as stand:
        result = live_saving.missing_service(stand, share=round(100 * share), seconds=3)
    sigma = math.sqrt(share * (1 - share) / result.requests)
    got = result.failed / result.requests
    show(f"{result.requests} requests, {got:.1%} answered 500 (weight {share:.0%}, sigma {sigma:.2%}); {result.state}")
    assert result.parents == ["shop/catalog:80"]
    assert result.state == "ResolvedRefs=False"
    assert result.other == 0
    assert abs(got - share) <= 4 * sigma


def test_13_what_explain_says_is_what_is_served() -> None:
    with open_shop() as stand:
        result = explained.compare(stand, SEED, configurations=25, requests=20)
    show(
        f"{result.pairs} pairs (seed {SEED}), {result.routes} of them with their route compared; "
        f"served {dict(sorted(result.kinds.items()))}; {len(result.wrong)} differ"
    )
    assert result.pairs == 500
    assert result.routes >= 100
    assert result.wrong == []


@pytest.fixture(autouse=True)
def _pause_between() -> Iterator[None]:
    """TIME_WAIT and CPU of one line must not colour the next."""
    yield
    time.sleep(0.5)
