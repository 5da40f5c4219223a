from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.authorization import has_network_part
from nodeagent.core.backends import guarded_groups
from nodeagent.core.coverage import Coverage, Target, coverage, is_covered, judges_requests, newly_covered, with_changes
from nodeagent.core.model import (
    Action,
    Destination,
    EnforcementLevel,
    HttpOperation,
    Policy,
    PolicyRule,
    Protocol,
    Rung,
    Snapshot,
    Source,
    Workload,
)
from tests.core import strategies as some

WEB = Workload("shop", "web-1", "web", "web", ("198.18.0.1",), "/run/netns/web", enrolled=True)
JOB = Workload("batch", "job-1", "job", "job", ("198.18.0.2",), "/run/netns/job", enrolled=True)
CART = ("198.18.0.9", 8080)


def snapshot(*policies: Policy, protocol: Protocol = Protocol.HTTP1, refuse: str = "") -> Snapshot:
    cart = Destination("shop/cart:80", *CART, protocol, is_frontend=False, policies=policies, refuse=refuse)
    return Snapshot(1, {CART: cart}, {WEB.key: WEB, JOB.key: JOB})


def deny(level: EnforcementLevel, http: tuple[HttpOperation, ...] = ()) -> Policy:
    rule = PolicyRule((Source(namespaces=("batch",)),), (), http)
    return Policy("shop/no-batch", Action.DENY, level, (rule,))


def test_a_new_http_rule_covers_the_port_for_every_pod() -> None:
    before = coverage(snapshot(), [WEB, JOB])
    now = coverage(snapshot(deny(EnforcementLevel.APPLICATION, (HttpOperation(methods=("DELETE",)),))), [WEB, JOB])
    assert newly_covered(before, now, [WEB.key, JOB.key]) == {WEB.key: {CART}, JOB.key: {CART}}


def test_a_new_network_rule_covers_the_port_only_for_the_pods_it_denies() -> None:
    now = coverage(snapshot(deny(EnforcementLevel.NETWORK)), [WEB, JOB])
    assert newly_covered(Coverage(), now, [WEB.key, JOB.key]) == {JOB.key: {CART}}


def test_a_rule_that_was_there_before_covers_nothing_new() -> None:
    now = coverage(snapshot(deny(EnforcementLevel.NETWORK)), [WEB, JOB])
    assert newly_covered(now, now, [WEB.key, JOB.key]) == {}


def test_a_refused_destination_covers_everyone() -> None:
    now = coverage(snapshot(protocol=Protocol.OPAQUE, refuse="rule cannot be enforced"), [WEB])
    assert newly_covered(Coverage(), now, [WEB.key]) == {WEB.key: {CART}}


@given(some.destinations | some.routed_destinations())
def test_a_plain_destination_is_one_that_nobody_has_to_judge(destination: Destination) -> None:
    """Coverage and the kernel's state leave these out early."""
    judged = judges_requests(destination) or has_network_part(destination) or bool(guarded_groups(destination))
    if destination.is_plain:
        assert (destination.rung, judged) == (Rung.DIRECT, False)
    else:
        assert destination.policies or destination.refuse or destination.has_routes


def test_any_other_port_of_an_address_does_not_mean_ports_with_an_entry_of_their_own() -> None:
    targets = frozenset({("198.18.0.9", 0)})
    assert is_covered(targets, "198.18.0.9", 9999, known={CART})
    assert not is_covered(targets, *CART, known={CART})
    assert is_covered(frozenset({CART}), *CART, known={CART})


def test_a_node_port_is_meant_at_the_address_of_every_node() -> None:
    node, pod, port = "203.0.113.4", "198.18.0.9", 30080
    known = {("0.0.0.0", port), ("0.0.0.0", 30081), (node, 0)}
    targets = frozenset({("0.0.0.0", port), (node, 0)})
    assert is_covered(targets, node, port, known)
    assert is_covered(targets, node, 22, known)  # by what covers the rest of the node
    assert not is_covered(targets, node, 30081, known)
    assert not is_covered(targets, pod, port, known)


TARGETS = [(f"198.18.1.{number}", 80) for number in range(4)]
one_destination = some.destinations | some.routed_destinations()
tables = st.dictionaries(st.sampled_from(TARGETS), one_destination)
PODS = [WEB, JOB]


@given(tables, st.lists(st.dictionaries(st.sampled_from(TARGETS), st.none() | one_destination, min_size=1), max_size=4))
def test_changes_cover_the_same_as_the_whole_and_cover_newly_what_is_covered_and_was_not(
    table: dict[Target, Destination], changes: list[dict[Target, Destination | None]]
) -> None:
    now = coverage(Snapshot(1, table, {}), PODS)
    for change in changes:
        new = {target: one for target, one in change.items() if one}
        gone = [target for target, one in change.items() if not one]
        table = {target: one for target, one in {**table, **new}.items() if target not in gone}
        before, now = now, with_changes(now, new, gone, PODS)
        assert now == coverage(Snapshot(1, table, {}), PODS)
        ended = {pod.key: now.of(pod.key) - before.of(pod.key) for pod in PODS}
        assert newly_covered(before, now, ended) == {pod: targets for pod, targets in ended.items() if targets}
