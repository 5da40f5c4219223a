"""Deadlines behind one timer: those that are missed are told in time, those that are met cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nodeagent.proxy.deadlines import Deadlines, DeadlineTable


class Clock:
    """A loop's timers, on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.fired = 0
        self.faults: list[dict[str, Any]] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> object:
        assert when >= self.now, "a timer for what is over already"
        self._timers.append((when, callback))
        return callback

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.faults.append(context)

    def pass_to(self, moment: float) -> None:
        """Each timer fires when it is due."""
        while due := sorted([timer for timer in self._timers if timer[0] <= moment], key=lambda timer: timer[0]):
            self._timers.remove(due[0])
            self.now, fire = due[0]
            self.fired += 1
            fire()
        self.now = moment


def test_a_missed_deadline_is_told_in_time_and_a_met_one_never() -> None:
    clock, told = Clock(), dict[str, float]()

    def missed(item: str) -> None:
        told[item] = clock.now

    deadlines = Deadlines[str](clock, 5, missed)
    for began, item in enumerate("abcd"):
        clock.pass_to(began)
        deadlines.start(item, began)
    deadlines.stop("a")
    deadlines.stop("c")
    clock.pass_to(20)
    assert told == {"b": 1 + 5, "d": 3 + 5}
    assert len(deadlines) == 0


def test_a_timer_that_fires_late_tells_all_that_are_due_by_then() -> None:
    clock, told = Clock(), list[str]()
    deadlines = Deadlines[str](clock, 5, told.append)
    for began, item in enumerate("abc"):
        deadlines.start(item, began)
    clock.now = 6.5  # the loop was busy
    clock.pass_to(6.5)
    assert told == ["a", "b"]
    clock.pass_to(7)
    assert told == ["a", "b", "c"]


def test_it_works_again_after_all_were_met() -> None:
    clock, told = Clock(), list[int]()
    deadlines = Deadlines[int](clock, 2, told.append)
    for number in range(3):
        deadlines.start(number, clock.now)
        deadlines.stop(number)
        clock.pass_to(clock.now + 3)
    assert told == []
    deadlines.start(9, clock.now)
    clock.pass_to(clock.now + 2)
    assert told == [9]


def test_deadlines_that_are_met_cost_a_timer_per_length_and_not_one_each() -> None:
    clock = Clock()
    deadlines = Deadlines[int](clock, 5, lambda number: None)
    for number in range(1000):
        clock.pass_to(number / 100)
        deadlines.start(number, clock.now)
        deadlines.stop(number)
    assert clock.fired <= 2


def test_a_bug_in_one_does_not_keep_the_others_from_being_told() -> None:
    clock, told = Clock(), list[int]()

    def missed(item: int) -> None:
        told.append(10 // item)

    deadlines = Deadlines[int](clock, 1, missed)
    for item in (0, 5):
        deadlines.start(item, 0)
    clock.pass_to(1)
    assert told == [2]
    assert len(clock.faults) == 1


def test_lengths_that_nothing_uses_are_forgotten() -> None:
    table = DeadlineTable[int](Clock(), lambda number: None)
    used, unused = table.of(1000), table.of(2000)
    used.start(1, 0.0)
    table.forget_unused()
    assert table.of(1000) is used
    assert table.of(2000) is not unused
