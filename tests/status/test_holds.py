from __future__ import annotations

import pytest

from nodeagent.status.holds import Holds

A, B = ("HTTPRoute", "shop/a"), ("HTTPRoute", "shop/b")
FIRST, LONGEST = 0.5, 60.0


def holds() -> Holds:
    return Holds(FIRST, LONGEST, lambda: 0.0)


def test_nobody_waits_who_did_not_fail() -> None:
    one = holds()
    one.wrote(A, "x", 10.0)
    assert not one.has_to_wait(A, 10.0)
    assert one.next(10.0) is None


def test_what_failed_waits_and_longer_each_time() -> None:
    one, now = holds(), 10.0
    for pause in (0.5, 1.0, 2.0):
        one.failed(A, now)
        assert one.has_to_wait(A, now + pause - 0.01)
        assert not one.has_to_wait(A, now + pause)
        assert not one.has_to_wait(B, now)
        now += pause


def test_the_writer_may_sleep_until_the_first_of_those_that_wait_is_due() -> None:
    one = holds()
    one.failed(A, 10.0)
    one.failed(B, 10.2)
    assert one.next(10.3) == pytest.approx(0.2)
    assert one.next(10.5) == pytest.approx(0.2)
    assert one.next(10.7) is None


def test_who_fights_with_us_over_a_status_is_answered_ever_more_slowly() -> None:
    one, now = holds(), 10.0
    one.wrote(A, "ours", now)
    for pause in (0.5, 1.0, 2.0):
        assert one.repeats(A, "ours", now)
        assert one.next(now) == pytest.approx(pause)
        now += pause
        assert not one.repeats(A, "ours", now), "it has waited"
        one.wrote(A, "ours", now)


def test_what_says_something_else_is_no_repetition_and_ends_a_fight() -> None:
    one = holds()
    assert not one.repeats(A, "ours", 10.0), "it was never written"
    one.wrote(A, "ours", 10.0)
    assert not one.repeats(A, "news", 10.0)
    assert one.repeats(A, "ours", 10.0)
    assert not one.repeats(A, "news", 10.5)
    one.wrote(A, "news", 10.5)
    assert one.repeats(A, "news", 20.0)
    assert one.next(20.0) == pytest.approx(FIRST)


def test_what_was_written_or_waited_long_ago_is_forgotten() -> None:
    one = holds()
    one.wrote(A, "x", 100.0)
    one.failed(B, 100.0)
    one.forget(100.0 + LONGEST)
    assert len(one) == 2
    one.forget(101.0 + LONGEST * 1.5)
    assert len(one) == 0
    assert one.next(101.0 + LONGEST * 1.5) is None
    assert not one.repeats(A, "x", 101.0 + LONGEST * 1.5)


def test_what_waits_is_remembered_however_long_ago_it_was_written() -> None:
    one = holds()
    one.wrote(A, "x", 100.0)
    for _ in range(9):
        one.failed(A, 150.0)
    one.forget(100.0 + LONGEST + 1)
    assert one.has_to_wait(A, 150.0 + LONGEST - 1)
    assert one.next(150.0 + LONGEST - 1) == pytest.approx(1.0)
