"""Weights are shares; one random number chooses backend and endpoint without bias."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.balance import choose_backend, choose_endpoint, endpoint_index, shares
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
