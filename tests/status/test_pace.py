"""How fast, and when again."""

from __future__ import annotations

import pytest

from nodeagent.status.pace import Backoff, Bucket, Spacing


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=2.0, burst=3)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.wait(10.0) == pytest.approx(0.5)
    assert not bucket.take(10.4)
    assert bucket.take(10.5)
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = Bucket(rate=1.0, burst=1)
    assert bucket.take(10.0)
    assert not bucket.take(5.0)


def test_pauses_double_up_to_a_bound_and_differ() -> None:
    assert [Backoff(0.5, 3.0, lambda: 0.0).failed() for _ in range(1)] == [0.5]
    backoff = Backoff(0.5, 3.0, lambda: 0.0)
    assert [backoff.failed() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.failures == 5
    assert Backoff(1.0, 3.0, lambda: 0.5).failed() == 0.75
    assert Backoff(1.0, 3.0, lambda: 0.0).failed(at_least=9.0) == 9.0


def test_many_failures_are_no_overflow() -> None:
    backoff = Backoff(0.5, 30.0, lambda: 0.0)
    for _ in range(2000):
        pause = backoff.failed()
    assert pause == 30.0


def test_the_second_write_after_a_pause_may_follow_soon_and_the_third_may_not() -> None:
    spacing = Spacing(0.5, 0.05)
    assert [spacing.wrote(0.1, now) for now in (10.0, 10.05, 10.55, 11.05)] == [0.05, 0.5, 0.5, 0.5]
    assert spacing.wrote(0.1, 12.1) == 0.05


def test_where_many_write_each_waits_for_the_others() -> None:
    spacing = Spacing(0.5, 0.05)
    assert [spacing.wrote(2.0, now) for now in (10.0, 12.0, 30.0)] == [2.0, 2.0, 2.0]
