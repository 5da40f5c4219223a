"""Endpoints in trouble get no requests, never too many of them, and exactly one request finds out if it is over."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nodeagent.core.health import (
    HEALTHY,
    MAX_EJECTIONS,
    MAX_TROUBLED,
    NEVER,
    Barred,
    Health,
    Status,
    Trouble,
    barred,
    endpoint_key,
    pack,
    unpack,
)
from nodeagent.core.ledger import RECORD_BYTES
from nodeagent.core.outlier import (
    LEAST_PROBE_TIME,
    MS,
    Kind,
    after_failure,
    after_success,
    blames_endpoint,
    ejection_limit,
    evaluate_success_rate,
    give_back_probe,
    kind_of,
    take_probe,
    within_limit,
)
from nodeagent.core.traffic import OutlierDetection, SuccessRate

START = 1_000_000 * MS
THREE = OutlierDetection(consecutive_5xx=3, consecutive_local_origin_failures=2, max_ejection_percent=50)
BASE = THREE.base_ejection_time * MS
TEN = frozenset(range(10))


def failed(
    state: Health, times: int = 1, kind: Kind = Kind.SERVER_ERROR, config: OutlierDetection = THREE, endpoint: int = 0
) -> Health:
    for _ in range(times):
        state = after_failure(state, config, endpoint, kind, START, TEN)
    return state


def status_of(state: Health, endpoint: int = 0) -> Status:
    return state.troubled.get(endpoint, Trouble()).status


def probed(state: Health, endpoint: int, now: int, config: OutlierDetection = THREE) -> tuple[Health, int]:
    probe = take_probe(state, config, endpoint, now)
    assert probe is not None
    return probe


# ---- when an endpoint is ejected ----


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, None),
        (404, None),
        (429, None),
        (499, None),
        (500, Kind.SERVER_ERROR),
        (501, Kind.SERVER_ERROR),
        (502, Kind.GATEWAY_ERROR),
        (503, Kind.GATEWAY_ERROR),
        (504, Kind.GATEWAY_ERROR),
        (505, Kind.SERVER_ERROR),
        (599, Kind.SERVER_ERROR),
    ],
)
def test_what_a_status_means(status: int, kind: Kind | None) -> None:
    assert kind_of(status) is kind


@pytest.mark.parametrize(
    ("number", "blamed"),
    [
        (errno.ECONNREFUSED, True),
        (errno.ETIMEDOUT, True),
        (errno.EHOSTUNREACH, True),
        (errno.EADDRNOTAVAIL, False),  # no source port left
        (errno.ENETUNREACH, False),
        (errno.EPERM, False),
        (errno.EMFILE, False),
        (None, False),
    ],
)
def test_which_failed_connects_speak_of_the_endpoint(number: int | None, blamed: bool) -> None:
    assert blames_endpoint(OSError(number, "connect") if number else OSError("connect")) is blamed


@pytest.mark.parametrize("kind", [Kind.SERVER_ERROR, Kind.GATEWAY_ERROR])
def test_the_third_of_three_errors_ejects_at_once(kind: Kind) -> None:
    assert status_of(failed(HEALTHY, 2, kind)) is Status.ADMITTED
    state = failed(HEALTHY, 3, kind)
    assert barred(state, START).endpoints == {0}
    assert barred(state, START).until == START + BASE


def test_a_success_between_errors_starts_the_count_again() -> None:
    state = after_success(failed(HEALTHY, 2), THREE, 0, START)
    assert state == HEALTHY
    assert status_of(failed(state, 2)) is Status.ADMITTED


def test_local_failures_have_a_count_of_their_own_that_a_response_ends() -> None:
    state = failed(failed(HEALTHY, 2), 1, Kind.LOCAL_ORIGIN)
    assert status_of(state) is Status.ADMITTED
    assert status_of(failed(state, 1, Kind.LOCAL_ORIGIN)) is Status.EJECTED
    one_of_each = failed(failed(HEALTHY, 1, Kind.LOCAL_ORIGIN), 1)
    assert status_of(failed(one_of_each, 1, Kind.LOCAL_ORIGIN)) is Status.ADMITTED


def test_gateway_errors_have_a_count_of_their_own_that_another_5xx_ends() -> None:
    config = replace(THREE, consecutive_5xx=100, consecutive_gateway_errors=2)
    state = failed(HEALTHY, 1, Kind.GATEWAY_ERROR, config)
    assert status_of(failed(state, 1, Kind.GATEWAY_ERROR, config)) is Status.EJECTED
    between = failed(state, 1, Kind.SERVER_ERROR, config)
    assert status_of(failed(between, 1, Kind.GATEWAY_ERROR, config)) is Status.ADMITTED


@pytest.mark.parametrize("kind", Kind)
def test_what_is_off_is_not_even_remembered(kind: Kind) -> None:
    config = OutlierDetection(consecutive_5xx=0, consecutive_local_origin_failures=0)
    assert failed(HEALTHY, 100, kind, config) is HEALTHY


def test_what_changes_nothing_is_the_same_object() -> None:
    assert after_success(HEALTHY, THREE, 0, START) is HEALTHY
    ejected = failed(HEALTHY, 3)
    assert failed(ejected) is ejected, "a request that was under way says nothing new"
    assert after_success(ejected, THREE, 0, START) is ejected
    assert after_success(ejected, THREE, 1, START) is ejected
    assert give_back_probe(ejected, 0, START, START) is ejected
    assert evaluate_success_rate(ejected, THREE, {}, START, TEN) is ejected


def test_a_backend_that_is_broken_as_a_whole_is_not_written_at_every_failure() -> None:
    state = HEALTHY
    for endpoint in TEN:
        state = failed(state, 3, endpoint=endpoint)
    assert sum(one.status is Status.EJECTED for one in state.troubled.values()) == 5
    for endpoint in TEN:
        assert failed(state, endpoint=endpoint) is state


@pytest.mark.parametrize(
    ("percent", "total", "limit"),
    [(10, 1, 1), (10, 5, 1), (10, 19, 1), (10, 20, 2), (0, 9, 1), (100, 9, 9), (50, 5, 2)],
)
def test_at_least_one_may_be_ejected_and_never_more_than_the_percent(percent: int, total: int, limit: int) -> None:
    assert ejection_limit(OutlierDetection(max_ejection_percent=percent), total) == limit


@given(st.integers(1, 10), st.integers(0, 100), st.integers(0, 10))
def test_after_a_change_no_more_are_out_than_may_be_and_who_stays_out_is_out_for_longest(
    left: int, percent: int, ejected: int
) -> None:
    at_once = replace(THREE, consecutive_5xx=1, max_ejection_percent=100)
    state = HEALTHY
    for endpoint in range(ejected):
        state = after_failure(state, at_once, endpoint, Kind.SERVER_ERROR, START + endpoint * MS, TEN)
    config, stays = replace(at_once, max_ejection_percent=percent), frozenset(range(left))
    after = within_limit(state, config, START, stays)
    out = [endpoint for endpoint in stays if status_of(after, endpoint) is Status.EJECTED]
    before = min(left, ejected)
    limit = ejection_limit(config, left)
    assert out == list(range(before))[max(0, before - limit) :]
    assert within_limit(after, config, START, stays) is after


def test_endpoints_that_have_gone_do_not_keep_others_from_being_ejected() -> None:
    config = replace(THREE, max_ejection_percent=10)
    state = failed(HEALTHY, 3, config=config)
    for _ in range(3):
        state = after_failure(state, config, 1, Kind.SERVER_ERROR, START, TEN - {0})
    assert status_of(state, 1) is Status.EJECTED
    assert 0 not in state.troubled
    assert after_failure(state, config, 0, Kind.SERVER_ERROR, START, TEN - {0}) is state


# ---- the way back ----


def test_after_its_time_one_request_only_is_let_through() -> None:
    state, end = failed(HEALTHY, 3), START + BASE
    assert take_probe(state, THREE, 0, end - 1) is None
    assert barred(state, end) == Barred(frozenset(), frozenset({0}), NEVER)
    state, _ = probed(state, 0, end)
    assert take_probe(state, THREE, 0, end) is None
    assert barred(state, end).endpoints == {0}


def test_a_probe_that_succeeds_admits_the_endpoint() -> None:
    state, name = probed(failed(HEALTHY, 3), 0, START + BASE)
    state = after_success(state, THREE, 0, START + BASE, name)
    assert barred(state, START + BASE) == Barred(frozenset(), frozenset(), NEVER)
    assert status_of(failed(state, 2)) is Status.ADMITTED, "counts start again"


@pytest.mark.parametrize("kind", Kind)
def test_a_probe_that_fails_ejects_for_longer(kind: Kind) -> None:
    state, now = failed(HEALTHY, 3), START
    for times in range(1, 15):
        now += min(times * BASE, THREE.max_ejection_time * MS)
        assert barred(state, now - 1).endpoints == {0}
        state, name = probed(state, 0, now)
        state = after_failure(state, THREE, 0, kind, now, TEN, name)
    assert barred(state, now).until == now + THREE.max_ejection_time * MS


def test_where_only_unreachable_endpoints_are_ejected_any_response_admits() -> None:
    config = OutlierDetection(consecutive_5xx=0, consecutive_local_origin_failures=2)
    state, name = probed(failed(HEALTHY, 2, Kind.LOCAL_ORIGIN, config), 0, START + BASE, config)
    state = after_failure(state, config, 0, Kind.SERVER_ERROR, START + BASE, TEN, name)
    assert status_of(state) is Status.ADMITTED


def test_a_lost_probe_does_not_lock_the_endpoint_out_and_its_late_outcome_does_not_count() -> None:
    state, lost = probed(failed(HEALTHY, 3), 0, START + BASE)
    state, second = probed(state, 0, lost)
    assert after_success(state, THREE, 0, lost, lost) is state
    assert after_failure(state, THREE, 0, Kind.SERVER_ERROR, lost, TEN, lost) is state
    assert give_back_probe(state, 0, lost, lost) is state
    assert status_of(after_success(state, THREE, 0, lost, second)) is Status.ADMITTED


def test_a_probe_given_back_may_be_taken_at_once() -> None:
    state, name = probed(failed(HEALTHY, 3), 0, START + BASE)
    state = give_back_probe(state, 0, START + BASE + 1, name)
    assert barred(state, START + BASE + 1).due == {0}
    state, name = probed(state, 0, START + BASE + 1)
    assert barred(after_failure(state, THREE, 0, Kind.SERVER_ERROR, START, TEN, name), START).until == START + 2 * BASE


def test_ejections_fade_by_one_per_interval_without() -> None:
    config = replace(THREE, interval=1000)
    state, now = failed(HEALTHY, 3), START
    for times in (1, 2):
        now += times * BASE
        state, name = probed(state, 0, now)
        state = after_failure(state, config, 0, Kind.SERVER_ERROR, now, TEN, name)
    now += 3 * BASE
    state, name = probed(state, 0, now)
    state = after_success(state, config, 0, now, name)
    for intervals, times in ((0, 4), (1, 3), (2, 2), (3, 1), (9, 1)):
        later, after = now + intervals * 1000 * MS, state
        for _ in range(3):
            after = after_failure(after, config, 0, Kind.SERVER_ERROR, later, TEN)
        assert barred(after, later).until == later + times * BASE
    assert after_success(state, config, 0, now + 2999 * MS) is state
    assert after_success(state, config, 0, now + 3000 * MS) == HEALTHY


def ejected_again(config: OutlierDetection, times: int) -> tuple[Health, int]:
    """The state and the end of the last of so many ejections in a row."""
    state = failed(HEALTHY, 3, config=config)
    for _ in range(times - 1):
        now = barred(state, START).until
        state, name = probed(state, 0, now, config)
        state = after_failure(state, config, 0, Kind.SERVER_ERROR, now, TEN, name)
    return state, barred(state, START).until


def test_no_ejection_lasts_longer_than_max_ejection_time() -> None:
    config = replace(THREE, base_ejection_time=30_000, max_ejection_time=45_000)
    _, first = ejected_again(config, 1)
    _, second = ejected_again(config, 2)
    _, third = ejected_again(config, 3)
    assert (first - START, second - first, third - second) == (30_000 * MS, 45_000 * MS, 45_000 * MS)


def test_ejections_fade_in_a_bounded_time_however_many_there_were() -> None:
    state, now = ejected_again(THREE, 40)
    state, name = probed(state, 0, now)
    state = after_success(state, THREE, 0, now, name)
    intervals = THREE.max_ejection_time // THREE.base_ejection_time
    assert after_success(state, THREE, 0, now + intervals * THREE.interval * MS) == HEALTHY


def test_trouble_that_has_faded_is_forgotten_when_something_else_is_written() -> None:
    state, now = ejected_again(THREE, 1)
    state, name = probed(state, 0, now)
    state = after_success(state, THREE, 0, now, name)
    later = now + THREE.interval * MS
    assert list(after_failure(state, THREE, 1, Kind.SERVER_ERROR, later - 1, TEN).troubled) == [0, 1]
    assert list(after_failure(state, THREE, 1, Kind.SERVER_ERROR, later, TEN).troubled) == [1]


# ---- success rate ----

RATES = replace(THREE, success_rate=SuccessRate(5, 100, 1900), max_ejection_percent=20)
SIX = frozenset(range(6))
ONE_BAD = {**dict.fromkeys(range(5), (100, 100)), 5: (100, 50)}


def rated(tallies: dict[int, tuple[int, int]], config: OutlierDetection = RATES, state: Health = HEALTHY) -> set[int]:
    after = evaluate_success_rate(state, config, tallies, START, SIX)
    assert after.evaluated == START
    return {endpoint for endpoint in after.troubled if status_of(after, endpoint) is Status.EJECTED}


def test_an_endpoint_far_below_the_others_is_ejected() -> None:
    """Of rates 1, 1, 1, 1, 1, 0.5: mean 0.917, deviation 0.186, threshold 0.563."""
    assert rated(ONE_BAD) == {5}
    assert rated({**ONE_BAD, 5: (100, 99)}) == {5}, "close to others that are alike is far, as in Envoy"
    assert rated({**ONE_BAD, 4: (100, 60)}) == set(), "two that are bad widen the deviation"


def test_few_requests_or_hosts_say_nothing() -> None:
    assert rated({**ONE_BAD, 5: (99, 0)}) == set()
    assert rated({**ONE_BAD, 0: (99, 99), 1: (99, 99)}) == set()
    assert rated({}) == set()


def test_endpoints_that_are_out_or_gone_are_not_compared() -> None:
    out = failed(HEALTHY, 3, endpoint=5)
    assert rated({**ONE_BAD, 0: (100, 90)}, replace(RATES, max_ejection_percent=100), out) == {0, 5}
    assert rated({**ONE_BAD, 77: (100, 0)}) == {5}


@given(st.integers(1, 1000), st.integers(0, 1000), st.integers(1, 60))
def test_equal_rates_eject_nobody(requests: int, successes: int, count: int) -> None:
    config = replace(RATES, success_rate=SuccessRate(1, 1, 0))
    tallies = dict.fromkeys(range(count), (requests, min(successes, requests)))
    assert not evaluate_success_rate(HEALTHY, config, tallies, START, frozenset(range(count))).troubled


def test_rates_are_evaluated_once_per_interval() -> None:
    state = evaluate_success_rate(HEALTHY, RATES, {}, START, SIX)
    interval = RATES.interval * MS
    assert evaluate_success_rate(state, RATES, ONE_BAD, START + interval - 1, SIX) is state
    assert 5 in evaluate_success_rate(state, RATES, ONE_BAD, START + interval, SIX).troubled


@given(
    st.dictionaries(st.integers(0, 30), st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=30),
    st.integers(0, 100),
    st.integers(0, 3000),
)
def test_success_rates_never_eject_more_than_the_percent_and_the_worst_first(
    tallies: dict[int, tuple[int, int]], percent: int, factor: int
) -> None:
    tallies = {endpoint: (requests, min(requests, good)) for endpoint, (requests, good) in tallies.items()}
    config = replace(RATES, success_rate=SuccessRate(1, 1, factor), max_ejection_percent=percent)
    endpoints = frozenset(tallies)
    state = evaluate_success_rate(HEALTHY, config, tallies, START, endpoints)
    assert len(state.troubled) <= ejection_limit(config, len(endpoints))
    rates = {endpoint: good / requests for endpoint, (requests, good) in tallies.items() if requests}
    kept = [rate for endpoint, rate in rates.items() if endpoint not in state.troubled]
    assert all(rates[endpoint] <= min(kept) for endpoint in state.troubled)


# ---- the record ----

troubles = st.builds(
    Trouble,
    st.sampled_from(Status),
    st.integers(0, 2**63),
    st.integers(0, MAX_EJECTIONS),
    *[st.integers(0, 2**32 - 1)] * 3,
)
healths = st.builds(
    Health, st.integers(0, 2**63), st.dictionaries(st.integers(0, 2**64 - 1), troubles, max_size=MAX_TROUBLED)
)


@given(healths, st.binary(max_size=40))
def test_a_record_reads_back_as_what_was_written_whatever_follows(state: Health, rest: bytes) -> None:
    content = pack(state)
    assert len(content) <= RECORD_BYTES
    read = unpack(content + rest)
    assert read == state
    assert list(read.troubled) == list(state.troubled)


@pytest.mark.parametrize("content", [b"", bytes(RECORD_BYTES), b"\xff" * RECORD_BYTES])
def test_what_is_no_record_of_ours_is_health(content: bytes) -> None:
    assert unpack(content) == HEALTHY


def test_a_record_that_was_cut_is_an_error() -> None:
    with pytest.raises(ValueError, match="says 1 endpoints"):
        unpack(pack(failed(HEALTHY))[:-1])


def test_the_least_troubled_is_forgotten_when_there_are_too_many() -> None:
    many = frozenset(range(MAX_TROUBLED + 2))
    state = HEALTHY
    for _ in range(2):
        for endpoint in range(MAX_TROUBLED):
            state = after_failure(state, THREE, endpoint, Kind.SERVER_ERROR, START, many)
    assert len(state.troubled) == MAX_TROUBLED
    newcomer = MAX_TROUBLED
    assert after_failure(state, THREE, newcomer, Kind.SERVER_ERROR, START, many) is state
    state = after_success(state, THREE, 7, START)
    state = after_failure(state, THREE, newcomer, Kind.SERVER_ERROR, START, many)
    assert newcomer in state.troubled
    state = after_failure(state, THREE, newcomer + 1, Kind.SERVER_ERROR, START, many)
    assert newcomer not in state.troubled, "of two alike, the one that changed longest ago"
    assert newcomer + 1 in state.troubled


def test_endpoints_have_keys_of_their_own() -> None:
    keys = {endpoint_key(address, port) for address in ("10.0.0.1", "10.0.0.2", "fd00::1") for port in (80, 8080)}
    assert len(keys) == 6
    assert all(0 <= key < 2**64 for key in keys)


# ---- any sequence ----


class Endpoints(RuleBasedStateMachine):
    """A backend whose requests come and go in any order, beside a plain account of what was ejected when."""

    @initialize(
        total=st.integers(1, 80),
        percent=st.sampled_from((0, 10, 34, 100)),
        base=st.sampled_from((500, 1000, 30_000)),
        threshold=st.integers(1, 2),
    )
    def configure(self, total: int, percent: int, base: int, threshold: int) -> None:
        self.config = OutlierDetection(
            consecutive_5xx=threshold,
            consecutive_gateway_errors=1,
            consecutive_local_origin_failures=threshold,
            success_rate=SuccessRate(1, 1, 500),
            interval=1000,
            base_ejection_time=base,
            max_ejection_time=base * 4,
            max_ejection_percent=percent,
        )
        self.endpoints = frozenset(range(total))
        self.state = HEALTHY
        self.now = START
        self.probes: dict[int, int] = {}  # endpoint -> the name of its probe, while one is under way
        self.times: dict[int, int] = {}  # endpoint -> ejections, when it was admitted last
        self.admitted: dict[int, int] = {}  # endpoint -> when it was admitted after an ejection
        self.until: dict[int, int] = {}  # endpoint -> end of its ejection

    def take(self, after: Health) -> None:
        """Account for ejections and admissions; a stored state is read back before it is used."""
        for endpoint in self.endpoints:
            old, new = status_of(self.state, endpoint), status_of(after, endpoint)
            if new is Status.EJECTED and old is not Status.EJECTED and endpoint not in self.probes:
                self.account_ejection(endpoint)
            if new is Status.ADMITTED and old is Status.PROBED:
                self.admitted[endpoint] = self.now
                del self.until[endpoint]
        self.state = unpack(pack(after))

    def account_ejection(self, endpoint: int) -> None:
        times = self.times.get(endpoint, 0)
        if endpoint in self.admitted:
            times = max(0, times - (self.now - self.admitted.pop(endpoint)) // (self.config.interval * MS))
        self.times[endpoint] = times = min(4, times + 1)
        self.until[endpoint] = self.now + times * self.config.base_ejection_time * MS

    def one(self, data: st.DataObject) -> int:
        return data.draw(st.integers(0, min(len(self.endpoints), 70) - 1))

    @rule(data=st.data(), kind=st.sampled_from(Kind), times=st.integers(1, 3))
    def requests_fail(self, data: st.DataObject, kind: Kind, times: int) -> None:
        endpoint = self.one(data)
        for _ in range(times):
            self.take(after_failure(self.state, self.config, endpoint, kind, self.now, self.endpoints))

    @rule(kind=st.sampled_from(Kind))
    def everything_fails(self, kind: Kind) -> None:
        for endpoint in self.endpoints:
            self.take(after_failure(self.state, self.config, endpoint, kind, self.now, self.endpoints))

    @rule(data=st.data())
    def a_request_succeeds(self, data: st.DataObject) -> None:
        self.take(after_success(self.state, self.config, self.one(data), self.now))

    @rule(seconds=st.sampled_from((0.4, 1, 3, 31, 500)))
    def time_goes_by(self, seconds: float) -> None:
        self.now += int(seconds * 1000) * MS
        for endpoint, name in list(self.probes.items()):
            if self.now >= name:
                del self.probes[endpoint]  # lost

    @rule()
    def rates_are_evaluated(self) -> None:
        tallies = {endpoint: (100, 100 - endpoint % 7 * 10) for endpoint in self.endpoints}
        self.take(evaluate_success_rate(self.state, self.config, tallies, self.now, self.endpoints))

    @rule(data=st.data())
    def a_probe_is_sent(self, data: st.DataObject) -> None:
        endpoint = self.one(data)
        may = endpoint in self.until and self.now >= self.until[endpoint] and endpoint not in self.probes
        probe = take_probe(self.state, self.config, endpoint, self.now)
        assert (probe is not None) == may, "exactly one probe, when the time is over"
        if probe is not None:
            assert probe.name >= self.now + LEAST_PROBE_TIME
            self.take(probe.state)
            self.probes[endpoint] = probe.name

    @precondition(lambda self: self.probes)
    @rule(data=st.data(), outcome=st.sampled_from((*Kind, "success", "nothing")))
    def a_probe_ends(self, data: st.DataObject, outcome: Kind | str) -> None:
        endpoint = data.draw(st.sampled_from(sorted(self.probes)))
        name = self.probes[endpoint]
        if outcome == "nothing":
            self.take(give_back_probe(self.state, endpoint, self.now, name))
            del self.probes[endpoint]
        elif isinstance(outcome, Kind):
            del self.probes[endpoint]
            self.take(after_failure(self.state, self.config, endpoint, outcome, self.now, self.endpoints, name))
        else:
            self.take(after_success(self.state, self.config, endpoint, self.now, name))
            del self.probes[endpoint]
            assert endpoint not in self.until, "one success admits"

    @invariant()
    def never_too_many_are_out(self) -> None:
        if hasattr(self, "config"):
            out = [endpoint for endpoint in self.endpoints if status_of(self.state, endpoint) is not Status.ADMITTED]
            assert set(out) == set(self.until)
            assert len(out) <= ejection_limit(self.config, len(self.endpoints))
            assert len(self.state.troubled) <= MAX_TROUBLED

    @invariant()
    def nothing_is_sent_to_who_is_ejected_or_being_probed(self) -> None:
        if hasattr(self, "config"):
            now, found = self.now, barred(self.state, self.now)
            waiting = {endpoint for endpoint, until in self.until.items() if now < until or endpoint in self.probes}
            assert found.endpoints == waiting
            assert found.due == set(self.until) - waiting
            assert found.until == NEVER or found.until > now


Endpoints.TestCase.settings = settings(stateful_step_count=40)
TestAnySequence = Endpoints.TestCase
