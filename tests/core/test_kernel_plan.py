"""Plans for the kernel's maps: whatever the history of configurations, no connect can meet a torn state."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.kernel_plan import Plan, Tables
from nodeagent.core.kernel_state import (
    Desired,
    DestFlag,
    DestinationEntry,
    LocalPod,
    NameKind,
    PodEntry,
    RateEntry,
    VerdictEntry,
    build,
    destination_flags,
    needed_names,
    pod_text,
)
from nodeagent.core.model import (
    Action,
    Destination,
    Endpoint,
    EnforcementLevel,
    FailMode,
    Policy,
    PolicyRule,
    Protocol,
    Snapshot,
    Source,
    Workload,
)
from nodeagent.core.traffic import ConnectionRate, Limit, Mode
from tests.core.plans import planned

TARGETS = [(f"198.19.0.{i}", 80) for i in range(1, 5)]
ENDPOINTS = [Endpoint(f"198.18.0.{i}", 8080) for i in range(1, 4)]
COOKIES = [101, 102, 103]

endpoint_sets = st.lists(st.sampled_from(ENDPOINTS), max_size=3).map(tuple)
verdict_entries = st.builds(VerdictEntry, st.booleans(), st.integers(0, 2), st.just(0))


@st.composite
def configurations(draw: st.DrawFn) -> Desired:
    """A pod's id goes with its cookie, as in reality; verdicts cover all pods or there are none."""
    cookies = draw(st.lists(st.sampled_from(COOKIES), unique=True))
    pods = {cookie: PodEntry(cookie + 1000, 1, draw(st.booleans()), "", "") for cookie in cookies}
    table = st.fixed_dictionaries({entry.pod: verdict_entries for entry in pods.values()})
    entry = st.builds(
        DestinationEntry,
        st.integers(1, 3),
        st.just(DestFlag.FRONTEND),
        st.none() | endpoint_sets,
        st.none() | table,
    )
    targets = draw(st.lists(st.sampled_from(TARGETS), unique=True))
    own = frozenset((cookie, "198.18.0.9") for cookie in cookies)
    return Desired(pods, own, {target: draw(entry) for target in targets})


@st.composite
def histories(draw: st.DrawFn) -> list[Desired]:
    """As changes come: most destinations stay, pods do as long as none comes or leaves."""
    found = [draw(configurations())]
    for _ in range(draw(st.integers(0, 5))):
        new, old = draw(configurations()), found[-1]
        if draw(st.booleans()):
            changed = {target: new.destinations.get(target) for target in draw(st.sets(st.sampled_from(TARGETS)))}
            entries = {target: entry for target, entry in {**old.destinations, **changed}.items() if entry}
            table = {entry.pod: draw(verdict_entries) for entry in old.pods.values()}
            new = replace(old, destinations={t: _judged(e, table, old) for t, e in entries.items()})
        found.append(new)
    return found


def _judged(entry: DestinationEntry, table: dict[int, VerdictEntry], now: Desired) -> DestinationEntry:
    """Verdicts are those of the pods of now."""
    if entry.verdicts is None or entry.verdicts.keys() == {pod.pod for pod in now.pods.values()}:
        return entry
    return replace(entry, verdicts=table)


def planned_from(state: Tables, before: Desired, desired: Desired, *, keep: bool) -> tuple[Plan, Tables]:
    """`keep`: without a look at destinations that stay equal."""
    if not keep:
        return planned(state, desired)
    other = {t: entry for t, entry in desired.destinations.items() if before.destinations.get(t) != entry}
    left = before.destinations.keys() - desired.destinations.keys()
    return planned(state, replace(desired, destinations=other), left)


def steps(state: Tables, todo: Plan) -> Iterator[Tables]:
    """The maps after every single write, in the order that sync makes them, the late deletions included."""
    state = copy.deepcopy(state)
    for own in todo.new_own:
        state.own_addresses.add(own)
        yield state
    for number, content in todo.new_sets.items():
        assert number not in state.endpoint_sets, "a set must not be written over"
        state.endpoint_sets[number] = content
        yield state
    for (table, pod), verdict in todo.new_verdicts.items():
        assert pod not in state.verdict_tables.setdefault(table, {}), "a verdict must not be written over"
        state.verdict_tables[table][pod] = verdict
        yield state
    for cookie in todo.gone_pods:
        del state.pods[cookie]
        yield state
    for target, row in todo.destinations.items():
        state.destinations[target] = row
        yield state
    for target in todo.gone_destinations:
        del state.destinations[target]
        yield state
    for cookie, entry in todo.pods.items():
        state.pods[cookie] = entry
        yield state
    state.own_addresses -= todo.gone_own
    for number in todo.old_sets:
        del state.endpoint_sets[number]
        yield state
    for table, pod in todo.old_verdicts:
        del state.verdict_tables[table][pod]
        yield state


def seen(state: Tables, cookie: int, target: tuple[str, int]) -> object:
    """What a connect of that pod to that target reads: None = untouched."""
    pod, row = state.pods.get(cookie), state.destinations.get(target)
    if pod is None or row is None:
        return None
    endpoints = state.endpoint_sets.get(row.ep_set, ())[: row.ep_count]
    assert len(endpoints) == row.ep_count, "a destination names an endpoint that is not there"
    verdict = state.verdict_tables.get(row.policy, {}).get(pod.pod) if row.policy else "no policy"
    assert verdict is not None, "a destination names a table without the pod's verdict"
    return row.dest, endpoints, verdict


def wanted(desired: Desired, cookie: int, target: tuple[str, int]) -> object:
    pod, entry = desired.pods.get(cookie), desired.destinations.get(target)
    if pod is None or entry is None:
        return None
    verdict = entry.verdicts[pod.pod] if entry.verdicts is not None else "no policy"
    return entry.dest, entry.endpoints or (), verdict


@given(histories(), st.booleans())
def test_every_moment_shows_each_pod_the_old_or_the_new_answer(history: list[Desired], keep: bool) -> None:
    state, before = Tables(), Desired({}, frozenset(), {})
    for desired in history:
        todo, after = planned_from(state, before, desired, keep=keep)
        for moment in steps(state, todo):
            for cookie in COOKIES:
                for target in TARGETS:
                    old, new = wanted(before, cookie, target), wanted(desired, cookie, target)
                    assert seen(moment, cookie, target) in (old, new)
        for cookie in COOKIES:
            for target in TARGETS:
                assert seen(after, cookie, target) == wanted(desired, cookie, target)
        state, before = after, desired


@given(histories(), st.booleans())
def test_the_plan_leads_where_it_says(history: list[Desired], keep: bool) -> None:
    state, before = Tables(), Desired({}, frozenset(), {})
    for desired in history:
        todo, after = planned_from(state, before, desired, keep=keep)
        last = state
        for moment in steps(state, todo):
            last = copy.deepcopy(moment)
        kept = {number: table for number, table in last.verdict_tables.items() if table}
        assert kept == {number: table for number, table in after.verdict_tables.items() if table}
        assert (last.pods, last.destinations) == (after.pods, after.destinations)
        assert last.endpoint_sets == after.endpoint_sets
        assert after.set_numbers == {content: number for number, content in after.endpoint_sets.items()}
        state, before = after, desired


@given(configurations())
def test_the_same_configuration_again_writes_nothing(desired: Desired) -> None:
    _, state = planned(Tables(), desired)
    todo, _ = planned(state, desired)
    assert not todo


def test_equal_endpoints_and_verdicts_are_stored_once() -> None:
    entry = DestinationEntry(1, DestFlag.FRONTEND, tuple(ENDPOINTS), {1101: VerdictEntry(True, 7, 0)})
    pods = {101: PodEntry(1101, 1, False, "", "")}
    todo, _ = planned(Tables(), Desired(pods, frozenset(), dict.fromkeys(TARGETS, entry)))
    assert (len(todo.new_sets), len(todo.new_verdicts)) == (1, 1)


def test_a_new_pod_is_added_to_the_tables_that_are_there() -> None:
    def configuration(*pods: int) -> Desired:
        verdicts = {pod: VerdictEntry(False, 0, 0) for pod in pods}
        entry = DestinationEntry(1, DestFlag.FRONTEND, None, verdicts)
        return Desired({pod: PodEntry(pod, 1, False, "", "") for pod in pods}, frozenset(), {TARGETS[0]: entry})

    _, state = planned(Tables(), configuration(1))
    todo, _ = planned(state, configuration(1, 2))
    assert [pod for _table, pod in todo.new_verdicts] == [2]
    assert todo.destinations == {}


# ---- from snapshots to entries ----

WEB = Workload("shop", "web", "web-sa", "web", ("198.18.0.1", "fd00:198:18::1"), "/run/netns/web", enrolled=True)
DENY_WEB = Policy(
    "shop/no-web",
    Action.DENY,
    EnforcementLevel.NETWORK,
    (PolicyRule((Source(service_accounts=("shop/web-sa",)),), (), ()),),
)


def snapshot(*destinations: Destination, workload: Workload = WEB) -> Snapshot:
    return Snapshot(1, {(d.address, d.port): d for d in destinations}, {workload.key: workload})


def built(snap: Snapshot, pods: dict[str, LocalPod]) -> tuple[Desired, dict[tuple[NameKind, str], int]]:
    ids = {name: number for number, name in enumerate(sorted(needed_names(snap, pods)), start=1)}
    return build(snap, pods, ids), ids


LOCAL = {WEB.key: LocalPod(101, ("127.0.0.1", "198.18.0.1", "fe80::1"))}


def test_a_pod_that_is_not_enrolled_or_not_here_has_no_entry() -> None:
    aside = Workload("shop", "web", "web-sa", "web", ("198.18.0.1",), enrolled=False)
    assert built(snapshot(workload=aside), LOCAL)[0].pods == {}
    assert built(snapshot(), {})[0].pods == {}


def test_a_pod_shows_its_configured_addresses_and_owns_all_it_has() -> None:
    desired, _ = built(snapshot(), LOCAL)
    assert (desired.pods[101].ipv4, desired.pods[101].ipv6) == ("198.18.0.1", "fd00:198:18::1")
    assert {address for _cookie, address in desired.own_addresses} == {*WEB.addresses, "127.0.0.1", "fe80::1"}


def test_a_changed_identity_is_another_pod_to_the_verdicts() -> None:
    other = Workload("shop", "web", "other-sa", "web", WEB.addresses, WEB.netns, enrolled=True)
    assert pod_text(WEB, LOCAL[WEB.key]) != pod_text(other, LOCAL[WEB.key])


def test_fail_mode_reaches_the_pod() -> None:
    closed = Workload("shop", "web", "s", "web", (), "/n", enrolled=True, fail_mode=FailMode.CLOSED)
    assert built(snapshot(workload=closed), LOCAL)[0].pods[101].fail_closed


def test_a_network_deny_becomes_a_verdict_with_its_rule() -> None:
    denied = Destination("shop/a:80", *TARGETS[0], Protocol.OPAQUE, is_frontend=True, policies=(DENY_WEB,))
    desired, ids = built(snapshot(denied), LOCAL)
    pod, rule = desired.pods[101].pod, ids[NameKind.POLICY, "shop/no-web"]
    assert desired.destinations[TARGETS[0]].verdicts == {pod: VerdictEntry(True, rule, 0)}


def test_a_destination_without_policy_has_no_table() -> None:
    plain = Destination("shop/a:80", *TARGETS[0], Protocol.OPAQUE, is_frontend=True)
    assert built(snapshot(plain), LOCAL)[0].destinations[TARGETS[0]].verdicts is None


def test_a_frontend_keeps_endpoints_of_its_own_family_only() -> None:
    mixed = (ENDPOINTS[0], Endpoint("fd00:198:18::7", 8080))
    front = Destination("shop/a:80", *TARGETS[0], Protocol.OPAQUE, is_frontend=True, endpoints=mixed)
    assert built(snapshot(front), LOCAL)[0].destinations[TARGETS[0]].endpoints == (ENDPOINTS[0],)


def limited(entry: RateEntry | None, dest: int = 1) -> DestinationEntry:
    flags = DestFlag.FRONTEND | (DestFlag.RATE if entry else DestFlag(0))
    return DestinationEntry(dest, flags, None, None, entry)


def test_a_limit_of_connections_is_kept_per_destination_and_written_when_it_changes() -> None:
    slow, quick = RateEntry(100, 200, 7, False), RateEntry(50, 200, 7, False)
    both = dict.fromkeys(TARGETS[:2], limited(slow))  # two addresses of one Service
    todo, state = planned(Tables(), Desired({}, frozenset(), {**both, TARGETS[2]: limited(quick, 2)}))
    assert todo.rates == state.rates == {1: slow, 2: quick}
    todo, state = planned(state, Desired({}, frozenset(), {**both, TARGETS[2]: limited(slow, 2)}))
    assert (todo.rates, todo.destinations, todo.gone_rates) == ({2: slow}, {}, set())
    todo, state = planned(state, Desired({}, frozenset(), {TARGETS[2]: limited(slow, 2)}), left=[TARGETS[1]])
    assert (todo.rates, todo.gone_rates, state.rates) == ({}, set(), {1: slow, 2: slow})
    todo, state = planned(state, Desired({}, frozenset(), {TARGETS[2]: limited(None, 2)}), left=[])
    assert (todo.gone_rates, state.rates, list(todo.destinations)) == ({2}, {1: slow}, [TARGETS[2]])
    todo, state = planned(state, Desired({}, frozenset(), {TARGETS[2]: limited(None, 2)}))
    assert (todo.gone_rates, state.rates) == ({1}, {})


def test_a_limit_of_connections_becomes_a_bucket_and_a_flag_unless_the_destination_has_no_id() -> None:
    rate = ConnectionRate("shop/slow", Limit(3, 1000, 5), Mode.DRY_RUN)
    front = Destination("shop/a:80", *TARGETS[0], Protocol.OPAQUE, is_frontend=True, connection_rate=rate)
    desired, ids = built(snapshot(front), LOCAL)
    found = desired.destinations[TARGETS[0]]
    assert found.flags == DestFlag.FRONTEND | DestFlag.RATE
    assert found.rate == RateEntry(333_333_334, 5 * 333_333_334, ids[NameKind.POLICY, "shop/slow"], True)
    nameless = dict.fromkeys(ids, 0) | {name: one for name, one in ids.items() if name[0] is NameKind.POD}
    found = build(snapshot(front), LOCAL, nameless).destinations[TARGETS[0]]
    assert (found.flags, found.rate) == (DestFlag.FRONTEND, None)


def test_flags_follow_rung_policy_and_refusal() -> None:
    http = EnforcementLevel.APPLICATION
    needs_http = Policy("shop/h", Action.DENY, http, (PolicyRule((), (), ()),))
    make = {"name": "n", "address": "198.19.0.1", "port": 80, "is_frontend": True}
    http1 = Destination(**make, protocol=Protocol.HTTP1)  # type: ignore[arg-type]
    routed = Destination(**make, protocol=Protocol.HTTP1, has_producer_route=True)  # type: ignore[arg-type]
    policed = Destination(**make, protocol=Protocol.HTTP1, policies=(needs_http,))  # type: ignore[arg-type]
    broken = Destination(**make, protocol=Protocol.TLS, refuse="why")  # type: ignore[arg-type]
    assert destination_flags(http1) == DestFlag.FRONTEND
    assert destination_flags(routed) == DestFlag.FRONTEND | DestFlag.PROXY
    assert destination_flags(policed) == DestFlag.FRONTEND | DestFlag.PROXY | DestFlag.ENFORCE
    assert destination_flags(broken) == DestFlag.FRONTEND | DestFlag.REFUSE


def test_what_waits_to_be_deleted_is_spared_when_it_is_in_use_again() -> None:
    """After a failed write the maps are read anew, retired entries among them, and a plan may name these again."""
    endpoints, verdict = (ENDPOINTS[0],), VerdictEntry(False, 0, 0)
    waiting = Plan(old_sets={1: 1, 2: 1}, old_verdicts={(3, 11), (3, 12), (4, 11)})
    waiting.spare(Tables(endpoint_sets={1: endpoints}, verdict_tables={3: {11: verdict}}))
    assert waiting.old_sets == {2: 1}
    assert waiting.old_verdicts == {(3, 12), (4, 11)}
