"""Weights are shares; endpoints are chosen without bias, and never one that is excluded."""

from __future__ import annotations

import math
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.balance import (
    DEFAULT_LATENCY,
    Ewma,
    choose_backend,
    choose_endpoint,
    endpoint_index,
    nth_allowed,
    random_endpoint,
    round_robin,
    shares,
    two_choices,
)
from nodeagent.core.model import Backend, Endpoint

STEPS = 10_000


def backends(*weights: int) -> tuple[Backend, ...]:
    return tuple(Backend(f"shop/{index}:80", weight) for index, weight in enumerate(weights))


@pytest.mark.parametrize("weights", [(80, 20), (99, 1), (1, 1, 1, 1), (0, 5), (5, 0, 5), (1_000_000, 1)])
def test_a_backend_gets_its_weights_share(weights: tuple[int, ...]) -> None:
    choices = [choose_backend(backends(*weights), step / STEPS) for step in range(STEPS)]
    counts = Counter(choice[0] for choice in choices if choice)
    for index, weight in enumerate(weights):
        assert counts[index] == pytest.approx(STEPS * weight / sum(weights), abs=1)


@given(st.lists(st.integers(0, 1_000_000), min_size=1, max_size=16), st.floats(0, 1, exclude_max=True))
def test_of_evenly_spread_random_numbers_each_backend_gets_its_weights_share(weights: list[int], offset: float) -> None:
    """Within one of them, wherever the spread begins."""
    steps = 200
    choices = [choose_backend(backends(*weights), (step + offset) / steps) for step in range(steps)]
    counts = Counter(choice[0] for choice in choices if choice)
    for index, share in enumerate(shares(backends(*weights))):
        assert abs(counts[index] - steps * share) <= 1
        assert share == (weights[index] / sum(weights) if any(weights) else 0)


def test_weights_that_add_up_to_nothing_choose_nothing() -> None:
    assert choose_backend(backends(0, 0), 0.5) is None
    assert choose_backend((), 0.5) is None
    assert shares(backends(0, 0)) == (0.0, 0.0)


@given(st.lists(st.integers(0, 1_000_000), min_size=1, max_size=16), st.floats(0, 1, exclude_max=True))
def test_a_chosen_backend_has_weight_and_the_rest_is_a_random_number_again(weights: list[int], rand: float) -> None:
    choice = choose_backend(backends(*weights), rand)
    if sum(weights) == 0:
        assert choice is None
        return
    assert choice is not None
    assert weights[choice[0]] > 0
    assert 0 <= choice[1] < 1


@given(st.integers(1, 5000), st.floats(0, 1, exclude_max=True))
def test_an_endpoint_index_is_always_in_range(count: int, rand: float) -> None:
    assert 0 <= endpoint_index(count, rand) < count


def test_endpoints_of_each_backend_are_equally_likely() -> None:
    endpoints = tuple(Endpoint(f"10.0.0.{n}", 80) for n in range(5))
    counts: Counter[tuple[int, Endpoint | None]] = Counter()
    for step in range(STEPS):
        choice = choose_backend(backends(80, 20), step / STEPS)
        assert choice is not None
        counts[choice[0], choose_endpoint(endpoints, choice[1])] += 1
    for endpoint in endpoints:
        assert counts[0, endpoint] == pytest.approx(1600, abs=2)
        assert counts[1, endpoint] == pytest.approx(400, abs=2)


def test_no_endpoint_is_chosen_from_none() -> None:
    assert choose_endpoint((), 0.3) is None


# ---- endpoints, by a policy ----

rands = st.floats(0, 1, exclude_max=True)
some_left = st.integers(1, 40).flatmap(lambda count: st.tuples(st.just(count), st.sets(st.integers(0, count - 1))))


@given(some_left, st.integers(0), rands, rands)
def test_no_picker_takes_an_excluded_endpoint_and_none_gives_up_early(
    given_endpoints: tuple[int, set[int]], turn: int, rand1: float, rand2: float
) -> None:
    count, excluded = given_endpoints
    allowed = set(range(count)) - excluded
    picks = (
        random_endpoint(count, rand1, excluded),
        round_robin(count, turn, excluded),
        two_choices(count, lambda index: index * 7 % 5, rand1, rand2, excluded),
    )
    for index in picks:
        assert index in allowed if allowed else index is None


@given(some_left)
def test_what_is_left_keeps_its_order(given_endpoints: tuple[int, set[int]]) -> None:
    count, excluded = given_endpoints
    allowed = [index for index in range(count) if index not in excluded]
    assert [nth_allowed(nth, excluded) for nth in range(len(allowed))] == allowed


def test_nothing_is_picked_from_nothing() -> None:
    assert random_endpoint(0, 0.5) is round_robin(0, 7) is two_choices(0, float, 0.5, 0.5) is None


@given(some_left, st.integers(0, 1000))
def test_round_robin_gives_each_that_is_left_its_turn(given_endpoints: tuple[int, set[int]], first: int) -> None:
    count, excluded = given_endpoints
    left = count - len(excluded)
    picks = Counter(round_robin(count, first + turn, excluded) for turn in range(3 * left))
    assert all(times == 3 for times in picks.values())
    assert len(picks) == left


@given(st.integers(2, 40), rands, rands)
def test_two_choices_differ_and_the_cheaper_is_taken(count: int, rand1: float, rand2: float) -> None:
    asked: list[int] = []

    def cost(index: int) -> float:
        asked.append(index)
        return float(index)

    picked = two_choices(count, cost, rand1, rand2)
    assert len(set(asked)) == 2
    assert picked == min(asked)


@given(st.integers(2, 30), st.integers(0, 2**32))
def test_two_choices_keep_the_highest_load_close_to_the_mean(count: int, seed: int) -> None:
    """Mean + log2(log2 n) + O(1) with two choices; one choice leaves a gap that grows with the number of requests."""
    random, loads = Random(seed), [0] * count
    for _ in range(100 * count):
        index = two_choices(count, loads.__getitem__, random.random(), random.random())
        assert index is not None
        loads[index] += 1
    assert max(loads) - 100 <= math.log2(max(2, math.log2(count))) + 6


def test_equal_costs_are_picked_equally() -> None:
    random = Random(1)
    counts = Counter(two_choices(5, lambda _index: 1, random.random(), random.random()) for _ in range(STEPS))
    assert all(times == pytest.approx(STEPS / 5, rel=0.1) for times in counts.values())


# ---- PeakEWMA ----

latencies = st.floats(0, 100)
pauses = st.floats(0, 1000)


@given(latencies, st.lists(st.tuples(latencies, pauses), max_size=20))
def test_the_average_is_never_below_the_last_latency_nor_above_the_highest(
    first: float, later: list[tuple[float, float]]
) -> None:
    ewma, now, highest = Ewma(0.0, first), 0.0, first
    for latency, pause in later:
        now += pause
        highest = max(highest, latency)
        ewma.observe(latency, now)
        assert latency <= ewma.cost(now, 0) <= highest * (1 + 1e-9)


@given(latencies, latencies, pauses)
def test_a_peak_is_believed_at_once(before: float, more: float, pause: float) -> None:
    ewma = Ewma(0.0, before)
    ewma.observe(before + more, pause)
    assert ewma.cost(pause, 0) == pytest.approx(before + more)


def test_a_lower_latency_is_believed_slowly() -> None:
    ewma = Ewma(0.0, 1.0)
    ewma.observe(0.1, 0.01)
    assert ewma.cost(0.01, 0) == pytest.approx(1.0, abs=0.001)
    ewma.observe(0.1, 10.01)
    assert ewma.cost(10.01, 0) == pytest.approx(0.1 + 0.9 / math.e, rel=0.01)


def test_without_news_a_latency_fades() -> None:
    ewma = Ewma(0.0, 1.0)
    assert ewma.cost(10.0, 0) == pytest.approx(1 / math.e)
    assert ewma.cost(100.0, 0) < DEFAULT_LATENCY


@given(latencies, st.integers(0, 1000), pauses)
def test_the_cost_grows_with_what_is_in_flight(latency: float, outstanding: int, pause: float) -> None:
    ewma = Ewma(0.0, latency)
    assert ewma.cost(pause, outstanding) == pytest.approx(ewma.cost(pause, 0) * (outstanding + 1))


def test_a_clock_that_seems_to_step_back_changes_nothing() -> None:
    ewma = Ewma(5.0, 1.0)
    assert ewma.cost(4.0, 0) == 1.0
    ewma.observe(0.1, 4.0)
    assert ewma.cost(5.0, 0) == 1.0


def test_a_new_endpoint_is_neither_shunned_nor_flooded() -> None:
    assert Ewma(0.0).cost(0.0, 0) == DEFAULT_LATENCY
    assert Ewma(0.0).cost(0.0, 9) == pytest.approx(10 * DEFAULT_LATENCY)
