"""Whose requests a limit counts, and in which bucket."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.addresses import in_cidr
from nodeagent.core.ledger import Tokens
from nodeagent.core.model import Workload
from nodeagent.core.rate_limits import (
    MAX_KNOWN,
    MAX_KNOWN_SIZE,
    MAX_KNOWN_TOGETHER,
    MAX_VALUE,
    Limits,
    LimitsOf,
    rate_limit_headers,
    tokens,
)
from nodeagent.core.recent import Room
from nodeagent.core.traffic import Limit, Mode, Per, RateLimitPolicy, RateLimitRule

TEN_A_SECOND = Limit(10, 1000, 20)
SECOND = 1_000_000_000
Headers = Sequence[tuple[str, str]]

small_limits = st.builds(Limit, st.integers(1, 100), st.integers(1, 5000), st.integers(1, 10))
rules = st.builds(
    RateLimitRule,
    st.sampled_from(("r", "s")),
    small_limits,
    st.sampled_from(Per),
    st.sampled_from(("x-tenant", "x-tier")),
    st.lists(st.sampled_from(("shop/web", "shop/*", "batch/*")), max_size=2).map(tuple),
    st.lists(st.tuples(st.sampled_from(("x-tier", "x-env")), st.sampled_from(("free", "café"))), max_size=2).map(tuple),
    st.lists(st.sampled_from(("10.0.0.0/8", "10.0.0.1/32", "fd00::/16")), max_size=2).map(tuple),
)
policies = st.builds(
    RateLimitPolicy,
    st.sampled_from(("shop/p", "shop/q")),
    st.lists(rules, max_size=3).map(tuple),
    st.sampled_from(Mode),
)
addresses = st.sampled_from(("10.0.0.1", "10.0.0.2", "192.0.2.7", "fd00::1"))
requests = st.lists(
    st.tuples(
        st.sampled_from(("x-tenant", "x-tier", "x-env", "accept")),
        st.sampled_from(("free", "paid", "café", "caf\u00c3\u00a9", "a,b")),
    ),
    max_size=4,
)


def workload(namespace: str = "shop", account: str = "web") -> Workload:
    return Workload(namespace, "pod", account, "web", ("10.0.0.1",))


callers = st.builds(workload, st.sampled_from(("shop", "batch")), st.sampled_from(("web", "job")))


def policy(*given_rules: RateLimitRule, name: str = "shop/p", mode: Mode = Mode.ENFORCE) -> RateLimitPolicy:
    return RateLimitPolicy(name, given_rules, mode)


def limits_of(given_policies: Sequence[RateLimitPolicy], caller: Workload, address: str) -> LimitsOf[Limits]:
    return LimitsOf(given_policies, caller, address, lambda limits: limits, Room(MAX_KNOWN_TOGETHER))


def buckets(rule: RateLimitRule, caller: Workload, address: str, headers: Headers = ()) -> list[Tokens]:
    return [applied.tokens for applied in limits_of([policy(rule)], caller, address).of(headers).enforced]


def counts(rule: RateLimitRule, caller: Workload, address: str, headers: Headers) -> bool:
    """The rule as RateLimitRule documents it, word by word."""
    accounts = {f"{caller.namespace}/{caller.service_account}", f"{caller.namespace}/*"}
    lines: dict[str, list[str]] = {}
    for name, value in headers:
        lines.setdefault(name, []).append(
            value.encode("latin-1").decode(errors="ignore") if "\u00c3" in value else value
        )
    return (
        (not rule.service_accounts or not accounts.isdisjoint(rule.service_accounts))
        and (not rule.cidrs or any(in_cidr(address, cidr) for cidr in rule.cidrs))
        and all(value in (*lines.get(name, ()), ",".join(lines.get(name, ()))) for name, value in rule.headers)
        and (rule.per is not Per.HEADER or rule.header in lines)
    )


@given(st.lists(policies, max_size=3), callers, addresses, requests)
def test_exactly_the_rules_that_mean_a_request_count_it(
    given_policies: list[RateLimitPolicy], caller: Workload, address: str, headers: Headers
) -> None:
    limits = limits_of(given_policies, caller, address).of(headers)
    for mode, applied in ((Mode.ENFORCE, limits.enforced), (Mode.DRY_RUN, limits.dry_run)):
        found = [(one.policy, one.rule) for one in applied]
        expected = [
            (policy, rule)
            for policy in given_policies
            for rule in policy.rules
            if policy.mode is mode and counts(rule, caller, address, headers)
        ]
        assert sorted(found, key=repr) == sorted(expected, key=repr)


@given(st.lists(policies, max_size=3), callers, addresses, requests)
def test_a_caller_without_rules_for_headers_is_never_judged_by_request(
    given_policies: list[RateLimitPolicy], caller: Workload, address: str, headers: Headers
) -> None:
    limits = limits_of(given_policies, caller, address)
    assert not limits.is_static or limits.of(headers) is limits.static


# ---- buckets ----


def test_a_total_is_one_bucket_for_all() -> None:
    rule = RateLimitRule("r", TEN_A_SECOND)
    assert buckets(rule, workload(), "10.0.0.1") == buckets(rule, workload("batch", "job"), "10.0.0.2")


def test_each_service_account_has_a_bucket() -> None:
    rule = RateLimitRule("r", TEN_A_SECOND, Per.SERVICE_ACCOUNT)
    assert buckets(rule, workload(), "10.0.0.1") == buckets(rule, workload(), "10.0.0.2")
    others = [workload("shop", "job"), workload("batch", "web")]
    assert len({buckets(rule, caller, "10.0.0.1")[0].key for caller in (workload(), *others)}) == 3


def test_each_address_has_a_bucket() -> None:
    rule = RateLimitRule("r", TEN_A_SECOND, Per.SOURCE_IP)
    assert buckets(rule, workload(), "10.0.0.1") != buckets(rule, workload(), "10.0.0.2")


def test_each_value_of_a_header_has_a_bucket_and_without_it_there_is_none() -> None:
    rule = RateLimitRule("r", TEN_A_SECOND, Per.HEADER, "x-tenant")
    keys = {buckets(rule, workload(), "10.0.0.1", [("x-tenant", value)])[0].key for value in ("", "a", "b", "a,b")}
    assert len(keys) == 4
    split = buckets(rule, workload(), "10.0.0.1", [("x-tenant", "a"), ("x-tenant", "b")])
    assert split == buckets(rule, workload(), "10.0.0.1", [("x-tenant", "a,b")])
    assert buckets(rule, workload(), "10.0.0.1", [("x-other", "a")]) == []


def test_long_values_that_begin_alike_share_a_bucket() -> None:
    rule = RateLimitRule("r", TEN_A_SECOND, Per.HEADER, "x-tenant")
    long = [[("x-tenant", "a" * MAX_VALUE + end)] for end in ("b", "c")]
    assert buckets(rule, workload(), "10.0.0.1", long[0]) == buckets(rule, workload(), "10.0.0.1", long[1])
    shorter = [("x-tenant", "a" * (MAX_VALUE - 1))]
    assert buckets(rule, workload(), "10.0.0.1", long[0]) != buckets(rule, workload(), "10.0.0.1", shorter)


def test_rules_and_policies_share_no_bucket() -> None:
    one = [policy(RateLimitRule(rule, TEN_A_SECOND), name=name) for rule in "rs" for name in ("shop/p", "shop/q")]
    limits = limits_of(one, workload(), "10.0.0.1").static
    assert len({applied.tokens.key for applied in limits.enforced}) == 4


def test_a_header_sent_twice_does_not_slip_past_a_selector() -> None:
    rule = RateLimitRule("r", TEN_A_SECOND, headers=(("x-tier", "free"),))
    assert buckets(rule, workload(), "10.0.0.1", [("x-tier", "free"), ("x-tier", "free")])
    assert not buckets(rule, workload(), "10.0.0.1", [("x-tier", "freer")])


@given(st.lists(policies, max_size=3), callers, addresses, st.lists(requests, max_size=8))
def test_what_is_remembered_is_what_would_be_judged(
    given_policies: list[RateLimitPolicy], caller: Workload, address: str, several: list[Headers]
) -> None:
    limits = limits_of(given_policies, caller, address)
    for headers in (*several, *several):
        assert limits.of(headers) == limits_of(given_policies, caller, address).of(headers)


def test_requests_alike_are_prepared_once_and_a_client_cannot_make_them_pile_up() -> None:
    rule, numbers = RateLimitRule("r", TEN_A_SECOND, Per.HEADER, "x-tenant"), count(1)
    limits = LimitsOf([policy(rule)], workload(), "10.0.0.1", lambda _limits: next(numbers), Room(MAX_KNOWN_TOGETHER))
    assert limits.of([("x-tenant", "a")]) == limits.of([("accept", "*"), ("x-tenant", "a")]) == 2
    for number in range(MAX_KNOWN):
        limits.of([("x-tenant", str(number))])
    assert limits.of([("x-tenant", str(MAX_KNOWN - 1))]) == MAX_KNOWN + 2, "the newest is remembered"
    assert limits.of([("x-tenant", "a")]) == MAX_KNOWN + 3, "the oldest made room"
    long = [("x-tenant", "a" * (MAX_KNOWN_SIZE + 1))]
    assert limits.of(long) != limits.of(long), "long values are not kept"


def test_of_all_callers_together_only_so_many_requests_are_remembered() -> None:
    rule, numbers, room = RateLimitRule("r", TEN_A_SECOND, Per.HEADER, "x-tenant"), count(1), Room(2)
    one, other = (
        LimitsOf([policy(rule)], workload(), address, lambda _limits: next(numbers), room)
        for address in ("10.0.0.1", "10.0.0.2")
    )
    a, b, c = ([("x-tenant", name)] for name in "abc")
    assert one.of(a) == one.of(a)
    assert other.of(b) == other.of(b)
    assert other.of(c) != other.of(c), "there is no room for it"
    assert one.of(a) == one.of(a)


def test_values_of_secret_headers_are_not_kept() -> None:
    rule, numbers = RateLimitRule("r", TEN_A_SECOND, Per.HEADER, "authorization"), count(1)
    limits = LimitsOf([policy(rule)], workload(), "10.0.0.1", lambda _limits: next(numbers), Room(MAX_KNOWN_TOGETHER))
    assert [limits.of([("authorization", "Bearer x")]) for _ in range(2)] == [2, 3]


@given(small_limits)
def test_tokens_never_come_faster_than_the_limit(limit: Limit) -> None:
    made = tokens(7, limit)
    interval = limit.interval * 1_000_000
    assert made.burst == limit.burst
    assert interval <= made.period * limit.requests < interval + limit.requests


# ---- the answer ----


@pytest.mark.parametrize(
    ("wait", "seconds"), [(0, "1"), (1, "1"), (SECOND, "1"), (SECOND + 1, "2"), (90 * SECOND, "90")]
)
def test_an_answer_over_the_limit_says_when_to_come_again(wait: int, seconds: str) -> None:
    rule = RateLimitRule("r", TEN_A_SECOND)
    assert rate_limit_headers(rule, 3, wait) == [
        ("retry-after", seconds),
        ("ratelimit-limit", "20"),
        ("ratelimit-remaining", "3"),
        ("ratelimit-reset", seconds),
    ]
