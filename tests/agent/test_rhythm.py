"""What is done again and again is done at the same moments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.agent.rhythm import rest, until_beat

PERIODS = st.sampled_from([0.5, 1.0, 5.0])


@given(now=st.floats(0, 1e9), period=PERIODS)
def test_the_next_beat_is_a_whole_multiple_and_no_further_away_than_a_period(now: float, period: float) -> None:
    left = until_beat(period, now)
    assert 0 < left <= period
    assert (now + left) / period == pytest.approx(round((now + left) / period), abs=1e-6)


@given(now=st.floats(0, 1e6))
def test_a_slow_beat_comes_with_a_quick_one(now: float) -> None:
    at = now + until_beat(5.0, now)
    quick = at % 0.5
    assert min(quick, 0.5 - quick) < 1e-6


def test_on_a_beat_the_next_one_is_a_period_away() -> None:
    assert until_beat(0.5, 10.0) == 0.5


@given(now=st.floats(0, 1e6), period=PERIODS)
def test_a_rest_ends_on_a_beat_too_and_is_never_short(now: float, period: float) -> None:
    pause = rest(period, now)
    assert period / 2 < pause <= period * 1.5
    assert pause - until_beat(period, now) in {0, period} or pause == pytest.approx(until_beat(period, now) + period)
