"""Acceptance on a real cluster of two nodes: one test per line, named by its rule, each printing its figure.

`make acceptance AREA=cluster` runs them all, `make smoke` those that CI runs: install, enrol, split, deny, uninstall.
A cluster that is up is used, and stays up (`make cluster-up`).
ACCEPTANCE_AWAY=60 shortens the five minutes without an API server, ACCEPTANCE_IDLE=60 the ten without a change;
ACCEPTANCE_STARTS=20 is fewer pods.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.figures import show
from tests.acceptance.on_cluster import (
    away,
    cycles,
    first_acts,
    intruders,
    kinds,
    objects,
    removal,
    shop,
    teardown,
    told,
    update,
    watched,
)
from tests.acceptance.on_cluster.first_acts import ALLOWED, DENIED, REFUSED
from tests.acceptance.on_cluster.mesh import Mesh
from tests.acceptance.on_cluster.shop import Shop
from tests.cluster import agent_image, gateway_api
from tests.cluster.cluster import Cluster, for_tests
from tests.cluster.remains import RIGHTS
from tests.config.verdicts import everything

REPOSITORY = Path(__file__).resolve().parents[2]
IDLE_SECONDS = float(os.environ.get("ACCEPTANCE_IDLE", "600"))
AWAY_SECONDS = float(os.environ.get("ACCEPTANCE_AWAY", "300"))
REQUESTS = 2000
LIKELY = 4  # sigma
LATE_MS = 100  # of an answer that a timeout gives, with what curl takes
STARTS, BURST = int(os.environ.get("ACCEPTANCE_STARTS", "50")), 20
CYCLES = 50
WEBS = ("web-1", "web-2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes with the agent's images and Gateway API's CRDs on them."""
    with for_tests(2) as made:
        for archive in agent_image.archives():
            made.load(archive)
        gateway_api.install(made)
        yield made


@pytest.fixture(scope="module")
def mesh(cluster: Cluster) -> Iterator[Mesh]:
    mesh = Mesh(cluster)
    mesh.remove()  # of a run that was killed
    yield mesh
    mesh.remove()


@pytest.fixture(scope="module")
def started(mesh: Mesh) -> Iterator[tuple[Shop, float]]:
    """The shop under all of its rules, and how many seconds it took from nothing to the first request denied."""
    with shop.open_shop(mesh.cluster) as opened:
        seconds = shop.seconds_until_enforced(mesh, opened)
        mesh.wait_ready()
        objects.apply(mesh.cluster, *shop.rules())
        objects.wait_programmed(mesh.cluster, *shop.rules())
        yield opened, seconds


@pytest.fixture(scope="module")
def stand(started: tuple[Shop, float]) -> Shop:
    return started[0]


# ---- 1: from nothing ----


@pytest.mark.smoke
def test_01_an_apply_and_a_label_enforce_the_first_request(cluster: Cluster, started: tuple[Shop, float]) -> None:
    up = ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in cluster.times.items())
    show(f"cluster: {up}; from kubectl apply -k to the first request denied: {started[1]:.1f} s")
    assert started[1] <= 60


@pytest.mark.smoke
def test_01_a_canary_gets_its_share_from_both_nodes(stand: Shop) -> None:
    served = Counter[str]()
    for web in WEBS:
        served.update(stand.served_by(web, "catalog/items", REQUESTS))
    share = shop.WEIGHTS[1] / sum(shop.WEIGHTS)
    canary = sum(count for pod, count in served.items() if pod.startswith("catalog-v2-"))
    sigmas = abs(canary - served.total() * share) / math.sqrt(served.total() * share * (1 - share))
    show(f"{served.total()} requests: {dict(sorted(served.items()))}; canary {sigmas:.1f} sigma from {share:.0%}")
    assert served.keys() == {f"catalog-{version}-{number}" for version in ("v1", "v2") for number in (1, 2)}
    assert served.total() == 2 * REQUESTS
    assert sigmas <= LIKELY


@pytest.mark.smoke
def test_01_a_path_is_denied_and_the_rest_is_served(stand: Shop) -> None:
    found = {web: (*stand.get(web, "catalog/admin", 50), *stand.get(web, "catalog/items", 50)) for web in WEBS}
    show(f"{ {web: dict(Counter(answers)) for web, answers in found.items()} }")
    assert all(Counter(answers) == {"403 denied 0": 50, "200 - 0": 50} for answers in found.values())


@pytest.mark.smoke
def test_01_a_service_account_is_refused_at_connect(stand: Shop) -> None:
    found = {pod: Counter(stand.get(pod, "catalog/items", 50)) for pod in ("job-1", "job-2", *WEBS)}
    show(f"{ {pod: dict(answers) for pod, answers in found.items()} }")
    refused, served = {"000 - 7": 50}, {"200 - 0": 50}
    assert found == {"job-1": refused, "job-2": refused, "web-1": served, "web-2": served}


def test_01_a_timeout_ends_a_request_in_time(stand: Shop) -> None:
    found = {web: stand.get(web, "slow/?delay=2", 10) for web in WEBS}
    times = [ms for web in WEBS for ms in stand.milliseconds(web, "slow/?delay=2", 10)]
    show(f"{ {web: dict(Counter(answers)) for web, answers in found.items()} } after {min(times)} to {max(times)} ms")
    assert all(Counter(answers) == {"504 request-timeout 0": 10} for answers in found.values())
    assert shop.TIMEOUT_MS - 1 <= min(times) <= max(times) <= shop.TIMEOUT_MS + LATE_MS


def test_01_what_is_over_a_limit_is_answered_429_on_each_node(stand: Shop) -> None:
    found = {web: Counter(stand.get(web, "metered/", 2 * shop.LIMIT)) for web in WEBS}
    show(f"limit {shop.LIMIT}: { {web: dict(answers) for web, answers in found.items()} }")
    expected = {"200 - 0": shop.LIMIT, "429 rate-limited 0": shop.LIMIT}
    assert all(answers == expected for answers in found.values())


def test_01_retries_bring_requests_past_a_pod_that_fails(stand: Shop) -> None:
    before = kinds.served(stand, "uneven-2")
    found = {web: Counter(stand.get(web, "uneven/", 200)) for web in WEBS}
    failed = kinds.served(stand, "uneven-2") - before
    show(f"{ {web: dict(answers) for web, answers in found.items()} }; {failed} tries failed at uneven-2")
    assert all(answers == {"200 - 0": 200} for answers in found.values())
    assert failed >= 100


def test_01_a_pod_that_fails_is_ejected_on_each_node(stand: Shop) -> None:
    found = {web: stand.get(web, "unsound/", 200) for web in WEBS}
    show(f"{ {web: dict(Counter(answers)) for web, answers in found.items()} }")
    for answers in found.values():
        assert Counter(answers) == {"503 - 0": shop.THRESHOLD, "200 - 0": 200 - shop.THRESHOLD}
        assert set(answers[-100:]) == {"200 - 0"}


# ---- 2: a container's first act ----


def test_02_with_refuse_nothing_that_is_denied_gets_through(mesh: Mesh, stand: Shop) -> None:
    with mesh.argument("--unclassified=refuse"):
        one_by_one = first_acts.start(mesh, "/admin", STARTS, at_once=1)
        together = first_acts.start(mesh, "/admin", STARTS, at_once=BURST)
        blind = first_acts.start_without_agents(mesh, "/admin", BURST)
    show(f"refuse, denied, one by one: {one_by_one}; {BURST} at once: {together}; agents stopped: {blind}")
    for found in (one_by_one, together, blind):
        assert found.outcomes.keys() <= {DENIED, REFUSED}
        assert found.outcomes[REFUSED] == found.refused
        assert found.direct == 0
    assert blind.refused == BURST


def test_02_with_direct_everything_that_got_through_is_counted(mesh: Mesh, stand: Shop) -> None:
    with mesh.argument("--unclassified=direct"):
        one_by_one = first_acts.start(mesh, "/admin", STARTS, at_once=1)
        together = first_acts.start(mesh, "/admin", STARTS, at_once=BURST)
        blind = first_acts.start_without_agents(mesh, "/admin", BURST)
    show(f"direct, denied, one by one: {one_by_one}; {BURST} at once: {together}; agents stopped: {blind}")
    for found in (one_by_one, together, blind):
        assert found.outcomes.keys() <= {DENIED, ALLOWED}
        assert found.outcomes[ALLOWED] == found.direct
        assert found.refused == 0
    assert blind.direct == BURST


def test_02_what_is_allowed_succeeds_at_the_first_try(mesh: Mesh, stand: Shop) -> None:
    usual = [first_acts.start(mesh, "/items", STARTS, at_once=count) for count in (1, BURST)]
    with mesh.argument("--unclassified=refuse"):
        strict = [first_acts.start(mesh, "/items", STARTS, at_once=count) for count in (1, BURST)]
    show(f"allowed, one by one: {usual[0]}; {BURST} at once: {usual[1]}")
    show(f"allowed, refuse, one by one: {strict[0]}; {BURST} at once: {strict[1]}")
    for found in (*usual, *strict):
        assert found.outcomes == {ALLOWED: STARTS}


# ---- 3: enrolling under load ----


def test_03_enrolling_and_un_enrolling_under_wrk_resets_and_fails_nothing(mesh: Mesh, stand: Shop) -> None:
    with cycles.open_pods(mesh.cluster):
        found = cycles.run(mesh, CYCLES)
    show(
        f"{found.made} times enrolled (at most {found.enrol_seconds:.2f} s) and un-enrolled "
        f"({found.leave_seconds:.2f} s), {found.proxied} connections proxied; {'; '.join(map(str, found.runs))}"
    )
    assert found.made == CYCLES
    assert found.proxied >= CYCLES
    assert sum(run.socket_errors + run.not_2xx for run in found.runs) == 0


# ---- 4: no API server ----


def test_04_without_an_api_server_enforcement_goes_on_and_status_says_stale(mesh: Mesh, stand: Shop) -> None:
    with watched.open_watched(mesh.cluster, "Closed") as seen:
        found = away.outage(mesh, seen, AWAY_SECONDS)
    show(f"{AWAY_SECONDS:.0f} s without an API server, callers Closed: {found}")
    assert found.denied.keys() <= {"403", "ECONNREFUSED", "ECONNRESET", "RemoteDisconnected"}
    assert found.denied["403"] >= AWAY_SECONDS
    assert found.allowed["200"] >= 0.8 * found.allowed.total()
    assert min(found.stale) >= AWAY_SECONDS - 5
    assert "stale for" in found.told
    assert found.synced <= 5


# ---- 5: an update ----


def test_05_an_update_keeps_direct_connections_and_what_is_closed_stays_closed(mesh: Mesh, stand: Shop) -> None:
    found = update.roll(mesh)
    show(f"rolled over in {found}")
    assert found.held == [update.HELD, update.HELD]
    assert found.closed["allowed"].keys() == {"200"}
    assert found.closed["denied"].keys() == {"403"}
    assert found.open["denied"]["200"] == found.bypassed
    # Every request has a connection of its own.  One that outlives the drain is reset: it is not handed over yet.


# ---- 6 and 7: what is told ----


def test_06_the_manifest_directory_and_the_api_server_agree(mesh: Mesh, stand: Shop) -> None:
    invalid = [case for case in everything.CASES if case.at]
    argv = [sys.executable, "-m", "pytest", "-q", "tests/cluster/test_crds.py"]
    environment = os.environ | {"KUBECTL": str(mesh.cluster.kubectl_program)}
    run = subprocess.run(argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    [summary] = re.findall(r"^\d+ \w+.* in .*$", run.stdout, re.MULTILINE) or ["no summary"]
    show(f"{len(everything.CASES)} objects, {len(invalid)} of them invalid: {summary}")
    assert len(everything.CASES) >= 150
    assert len(invalid) >= 40
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("name", list(told.cases()))
def test_07_conditions_are_right_and_there_within_2_seconds(stand: Shop, name: str) -> None:
    case = told.cases()[name]
    found = told.tell(stand.cluster, case)
    event = "no reject" if found.event_seconds is None else f"Event after {found.event_seconds:.2f} s"
    show(f"{name}: {found.conditions} after {found.seconds:.2f} s, {event}, field: {found.field or '-'}")
    assert found.conditions.items() >= case.expected.items()
    assert max(found.seconds, found.event_seconds or 0.0) <= 2


def test_07_while_nothing_changes_nothing_is_written_but_the_lease(mesh: Mesh, stand: Shop) -> None:
    found = told.writes_while_idle(mesh, IDLE_SECONDS)
    show(f"writes in {IDLE_SECONDS:.0f} idle seconds, besides the Lease: {dict(found)}")
    assert not found


def test_07_after_a_partition_between_two_leaders_the_status_is_right(mesh: Mesh, stand: Shop) -> None:
    found = told.cut_off_the_leader(mesh, 30)
    show(f"Lease held by {found.holders}; meanwhile {found.meanwhile}; in the end {found.finally_}")
    assert found.holders[0] != found.holders[1]
    assert found.meanwhile["Accepted"] == "True Accepted"
    assert found.finally_ == {
        "Accepted": "True Accepted",
        "ResolvedRefs": "False BackendNotFound",
        "Programmed": "True Programmed",
    }


# ---- 8: kinds of pods ----


def test_08_kubelets_probes_reach_a_pod_that_nobody_may_call(stand: Shop) -> None:
    found = kinds.probes(stand)
    show(f"startup, readiness and liveness probe: {found}")
    assert found == {"ready": True, "restarts": 0, "web-1": ["000 - 7"]}


def test_08_a_pod_with_host_network_is_left_out_and_status_says_so(mesh: Mesh, stand: Shop) -> None:
    found = kinds.host_network(mesh, stand)
    show(f"status names it as left out; {found}")
    assert found == {"asked": ["200 - 0"], "failed": {}}


def test_08_dns_over_udp_is_untouched(stand: Shop) -> None:
    found = kinds.questions_to_dns(stand, 500)
    show(f"answers to 500 questions: {found}")
    assert found == {"web-1": 500, "web-2": 500}


def test_08_init_containers_are_policed(stand: Shop) -> None:
    found = kinds.init_containers(stand)
    show(f"allowed, denied: {found}")
    assert found == {"first": kinds.POLICED, "main": kinds.POLICED}


def test_08_every_container_of_a_pod_is_policed_and_localhost_is_not(stand: Shop) -> None:
    found = kinds.several_containers(stand)
    show(f"allowed, denied: {found}")
    assert found == dict.fromkeys(("main", "second", "third"), kinds.POLICED)


def test_08_jobs_are_policed(stand: Shop) -> None:
    found = kinds.jobs(stand)
    show(f"jobs of five pods that ask once: {found}")
    assert found == {"items": {"Succeeded": 5}, "admin": {"Failed": 5}}


def test_08_an_address_that_another_pod_had_gives_no_rights(stand: Shop) -> None:
    found = kinds.reused_address(stand)
    show(f"{found}")
    assert len({address for _, address, _ in found}) == 1
    assert [(account, outcome) for account, _, outcome in found] == [
        ("job", "000 - 7"),
        ("web", "200 - 0"),
        ("job", "000 - 7"),
    ]


def test_08_a_pod_restarted_in_place_is_policed(stand: Shop) -> None:
    found = kinds.restarts(stand)
    show(f"{found}")
    assert all(outcome == ["200 - 0", "403 denied 0"] for outcome in found.values())
    assert len(found) == 3


# ---- 9: intruders ----


def test_09_root_in_a_pod_reaches_nothing_of_the_agents(stand: Shop) -> None:
    found = intruders.tries(stand, ())
    show(f"UID 0, the runtime's capabilities: {found}")
    assert found["listeners here"] >= 1
    assert found["another pod's listener"] == ["ECONNREFUSED"]
    assert found["own listener, without connect() of the mesh"] == ["ECONNRESET"]
    assert found["admin socket"] == found["pins"] == "ENOENT"
    assert found["ids of BPF programs"] == found["ids of BPF maps"] == "EPERM"
    assert found["a BPF file system of its own"] == found["a route of its own"] == "refused"
    assert found["abstract unix sockets"] == found["processes of the agent"] == []


def test_09_what_more_net_admin_and_net_raw_give(stand: Shop) -> None:
    usual, more = intruders.tries(stand, ()), intruders.tries(stand, ("NET_ADMIN", "NET_RAW"))
    show(f"with NET_ADMIN and NET_RAW also: { {name: more[name] for name in more if more[name] != usual[name]} }")
    assert more["another pod's listener"] == ["ECONNREFUSED"]
    assert more["admin socket"] == more["pins"] == "ENOENT"
    assert more["ids of BPF programs"] == more["ids of BPF maps"] == "EPERM"


def test_09_a_privileged_pod_in_the_hosts_namespace_does_not_enrol_the_host(mesh: Mesh, stand: Shop) -> None:
    found = intruders.enters_the_hosts_namespace(mesh, stand)
    show(f"{found}")
    assert found == intruders.Privileged(DENIED, ALLOWED, ALLOWED, enrolled=True, failed={})


# ---- 10: removal ----


@pytest.mark.parametrize(
    "first", [pytest.param((), id="as it is", marks=pytest.mark.smoke), pytest.param(RIGHTS, id="its RBAC first")]
)
def test_10_deleting_it_makes_traffic_direct_and_leaves_nothing(
    mesh: Mesh, stand: Shop, first: tuple[tuple[str, ...], ...]
) -> None:
    try:
        with watched.open_watched(mesh.cluster, "Closed") as seen:
            seconds = removal.seconds_until_direct(mesh, seen, first)
        left = removal.left_after(mesh, 30)
    finally:
        mesh.install()
        mesh.wait_ready()
    show(f"direct after {seconds:.2f} s; left on the nodes: {left}")
    assert seconds <= 2
    assert left == []


def test_10_what_an_agent_could_not_know_is_removed_by_uninstall(mesh: Mesh) -> None:
    """Its pods are started again without their rights: they never see that their DaemonSet is gone."""
    mesh.remove()
    name = "test_what_an_agent_without_rights_could_not_know_is_removed_by_uninstall"
    argv = [sys.executable, "-m", "pytest", "-q", f"tests/cluster/test_removal.py::{name}"]
    environment = os.environ | {"CLUSTER": mesh.cluster.tag}
    run = subprocess.run(argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    [summary] = re.findall(r"^\d+ \w+.* in .*$", run.stdout, re.MULTILINE) or ["no summary"]
    show(f"with rights taken away before the pods start: hooks stay until `nodeagent uninstall`; {summary}")
    assert run.returncode == 0, run.stdout + run.stderr


# ---- 11 ----


def test_11_a_cluster_that_was_taken_down_leaves_nothing() -> None:
    found = teardown.up_and_down()
    show(f"{found.there} things of a cluster with agent and pods while it was up; afterwards {found.left}")
    assert found.there >= 10
    assert found.left == []
