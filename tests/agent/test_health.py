from __future__ import annotations

import pytest

from nodeagent.agent import broker_client
from nodeagent.agent.health import Limits, Presence, hung_at, restart_delay, until_check
from nodeagent.kernel.instance import HEARTBEAT_LIMIT_MS
from nodeagent.proxy import engine, pulse

LIMITS = Limits()


def test_a_worker_is_hung_once_its_newest_beat_is_older_than_the_limit() -> None:
    assert hung_at(LIMITS, beat=97.0, ready_since=1.0, started=0.0) == 97.0 + LIMITS.beat


def test_a_worker_is_avoided_before_it_is_killed_and_killed_within_two_and_a_half_seconds() -> None:
    assert HEARTBEAT_LIMIT_MS / 1000 < LIMITS.beat < 2.5


def test_a_new_worker_is_not_judged_by_the_beat_its_predecessor_left() -> None:
    assert hung_at(LIMITS, beat=5.0, ready_since=99.0, started=98.0) == 99.0 + LIMITS.beat


def test_a_worker_that_never_gets_ready_is_hung_after_the_start_limit() -> None:
    assert hung_at(LIMITS, beat=0.0, ready_since=None, started=7.0) == 7.0 + LIMITS.start


def test_after_our_own_absence_no_heartbeat_proves_a_hang() -> None:
    gap = LIMITS.beat - LIMITS.period
    assert not Presence(LIMITS, now=-0.1).judges(gap)
    assert Presence(LIMITS, now=0.0).judges(gap)


def test_a_beat_a_period_before_our_absence_proves_no_hang() -> None:
    """The longest gap that counts as none, after a beat as old as a period: it is not yet too old."""
    for limits, period in ((LIMITS, engine.IDLE_TICK_SECONDS), (broker_client.LIMITS, pulse.BEAT_SECONDS)):
        assert limits.period >= period
        gap = limits.beat - limits.period
        assert Presence(limits, now=0.0).judges(gap)
        assert hung_at(limits, beat=-period, ready_since=-9.0, started=-9.0) >= gap


def test_an_agent_that_is_late_by_a_part_of_a_second_at_every_check_still_finds_what_is_hung() -> None:
    for limits in (LIMITS, broker_client.LIMITS):
        assert Presence(limits, now=0.0).judges(limits.check + 0.45)


def test_a_worker_that_lived_is_replaced_at_once_and_one_that_keeps_dying_slowly() -> None:
    assert restart_delay(LIMITS, lifetime=60.0, deaths_in_row=9) == 0.0
    assert restart_delay(LIMITS, lifetime=0.1, deaths_in_row=2) == 0.0
    assert 0.0 < restart_delay(LIMITS, lifetime=0.1, deaths_in_row=3) <= 1.0


def test_after_a_gap_what_lives_has_a_whole_period_to_show_it() -> None:
    """Else a node that stood still for a while would have everything killed that the agent was scheduled before."""
    presence = Presence(LIMITS, now=90.0)
    assert not presence.judges(100.0)
    assert presence.judges_from == 100.0 + LIMITS.check
    assert 100.0 + until_check(LIMITS, 100.0, [presence.judges_from]) >= presence.judges_from
    assert presence.judges(presence.judges_from)


def test_what_wakes_us_after_a_gap_does_not_shorten_that_period() -> None:
    """Another worker's end, for one."""
    presence = Presence(LIMITS, now=90.0)
    assert [presence.judges(now) for now in (100.0, 100.1, 100.0 + LIMITS.check - 0.1)] == [False] * 3
    assert presence.judges(100.0 + LIMITS.check)


def test_checks_are_on_a_beat() -> None:
    assert until_check(Limits(check=0.5), 100.375, []) == 0.125


def test_the_next_check_is_when_a_worker_would_be_hung_if_that_is_before_the_next_beat() -> None:
    assert until_check(LIMITS, 100.125, [100.25, 100.375]) == pytest.approx(0.125, abs=0.01)
    assert until_check(LIMITS, 100.125, [102.0]) == 0.875
    assert 100.125 + until_check(LIMITS, 100.125, [100.125]) > 100.125


def test_one_that_is_hung_already_is_not_looked_at_all_the_time() -> None:
    """It was killed, and its end wakes the supervisor."""
    assert until_check(LIMITS, 100.125, [100.0]) == 0.875
