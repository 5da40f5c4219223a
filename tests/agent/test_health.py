from __future__ import annotations

from nodeagent.agent import broker_client
from nodeagent.agent.health import Limits, is_hung, restart_delay, until_check, was_away

LIMITS = Limits()


def test_a_beating_worker_is_never_hung() -> None:
    assert not is_hung(LIMITS, now=100.0, beat=97.6, ready_since=1.0, started=0.0)


def test_a_worker_whose_beat_is_older_than_the_limit_is_hung() -> None:
    assert is_hung(LIMITS, now=100.0, beat=97.4, ready_since=1.0, started=0.0)


def test_a_new_worker_is_not_judged_by_the_beat_its_predecessor_left() -> None:
    assert not is_hung(LIMITS, now=100.0, beat=5.0, ready_since=99.0, started=98.0)


def test_a_worker_that_never_gets_ready_is_hung_after_the_start_limit() -> None:
    assert not is_hung(LIMITS, now=10.0, beat=0.0, ready_since=None, started=0.0)
    assert is_hung(LIMITS, now=30.0, beat=0.0, ready_since=None, started=0.0)


def test_after_our_own_absence_no_heartbeat_proves_a_hang() -> None:
    gap = LIMITS.beat - LIMITS.check
    assert was_away(LIMITS, now=10.0, last_check=9.9 - gap)
    assert not was_away(LIMITS, now=10.0, last_check=10.0 - gap)


def test_an_answer_asked_for_a_turn_before_our_absence_proves_no_hang() -> None:
    """The longest gap that counts as none, after an answer as old as a turn: it is not yet too old."""
    for limits in (LIMITS, broker_client.LIMITS):
        gap = limits.beat - limits.check
        assert not was_away(limits, now=gap, last_check=0.0)
        assert not is_hung(limits, now=gap, beat=-limits.check, ready_since=-9.0, started=-9.0)


def test_a_worker_that_lived_is_replaced_at_once_and_one_that_keeps_dying_slowly() -> None:
    assert restart_delay(LIMITS, lifetime=60.0, deaths_in_row=9) == 0.0
    assert restart_delay(LIMITS, lifetime=0.1, deaths_in_row=2) == 0.0
    assert 0.0 < restart_delay(LIMITS, lifetime=0.1, deaths_in_row=3) <= 1.0


def test_after_a_gap_what_lives_has_a_whole_period_to_show_it() -> None:
    """Else a node that stood still for a while would have everything killed that the agent was scheduled before."""
    assert until_check(Limits(check=0.5), 100.499, away=True) == 0.5
    assert until_check(Limits(check=0.5), 100.375, away=False) == 0.125
