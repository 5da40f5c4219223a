"""Turns on a worker's loop: nobody starves, shares even out, who asks for little is served soon."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.fairness import MOST_EVENTS, MOST_OF_WINDOW, SLICE, WINDOW, Share, Turns, events_for

COST = st.floats(1e-6, 5e-3)


@dataclass
class Pod:
    """Always ready; each event costs `cost` seconds."""

    cost: float
    share: Share = field(default_factory=Share)
    served: float = 0.0


class Node:
    """One loop with a clock that only turns move."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.now = 0.0

    def turn(self, ready: list[Pod]) -> Pod:
        """One slice for whoever is next."""
        began = self.now
        pod = ready[self.turns.order([one.share for one in ready], began)[0]]
        events = events_for(pod.share.dearest, SLICE)
        took = events * pod.cost
        self.now += took
        pod.served += took
        self.turns.ran(pod.share, events, took, began)
        return pod


def longest_turn(pod: Pod) -> float:
    """Before its cost is known a turn may be longer than a slice."""
    return max(SLICE + pod.cost, events_for(Share().dearest, SLICE) * pod.cost)


@given(st.lists(COST, min_size=2, max_size=8), st.integers(50, 300))
def test_pods_that_always_have_work_get_even_shares_of_time(costs: list[float], turns: int) -> None:
    """But for those that took more than half of a window: one alone among them can have."""
    node, pods = Node(), [Pod(cost) for cost in costs]
    for _ in range(turns):
        node.turn(pods)
    if not any(pod.share.behind for pod in pods):
        served = [pod.served for pod in pods]
        assert max(served) - min(served) <= 2 * max(longest_turn(pod) for pod in pods)


@given(st.lists(COST, min_size=2, max_size=6), st.lists(st.integers(0, 31), max_size=200))
def test_none_waits_longer_than_for_its_lead_and_one_turn_of_each_of_the_others_and_two_windows_if_behind(
    costs: list[float], comings: list[int]
) -> None:
    """However the others come and go: bit n of a number says whether pod n + 1 is ready then."""
    node, (first, *others) = Node(), [Pod(cost) for cost in costs]
    longest = max(longest_turn(pod) for pod in (first, *others))
    since = 0.0
    for coming in comings:
        served = node.turn([first, *(pod for bit, pod in enumerate(others) if coming >> bit & 1)])
        since = node.now if served is first else since
        behind = 2 * WINDOW if first.share.behind else 0.0
        assert node.now - since <= len(others) * 2 * longest + behind


@given(COST, st.integers(1, 1000))
def test_after_a_rest_a_pod_is_next_but_earns_no_credit(cost: float, turns: int) -> None:
    node, busy, rare = Node(), Pod(cost), Pod(cost)
    for _ in range(turns):
        node.turn([busy])
    assert node.turn([rare, busy]) is rare
    lead = busy.share.tag - rare.share.tag
    assert lead <= longest_turn(busy)


@given(COST)
def test_a_pod_that_takes_most_of_a_window_while_others_wait_is_behind_all_for_the_next(cost: float) -> None:
    node, busy, other = Node(), Pod(cost), Pod(1e-6)
    while not busy.share.behind:
        node.turn([busy])
        node.turn([other, busy])
        assert node.now < 2 * WINDOW + 2 * MOST_EVENTS * cost
    end = (busy.share.window + 2) * WINDOW
    assert busy.share.used > MOST_OF_WINDOW
    assert busy.share.behind_until == end
    other.share.tag = busy.share.tag + 1  # what it had itself does not matter now
    while node.now < end:
        assert node.turn([busy, other]) is other
        assert node.turn([busy]) is busy or node.now >= end


@given(COST, st.integers(1, 500))
def test_a_pod_that_nobody_waits_for_is_never_behind(cost: float, turns: int) -> None:
    node, busy = Node(), Pod(cost)
    for _ in range(turns):
        assert node.turn([busy]) is busy
    assert not busy.share.behind


def test_turns_are_counted_until_one_pod_was_alone_for_a_window() -> None:
    turns, first, second = Turns(), Share(), Share()
    turns.order([first], 0.0)
    assert not turns.is_alone(first, WINDOW / 2)
    assert turns.is_alone(first, 2 * WINDOW)
    turns.order([first, second], 2 * WINDOW)
    assert not turns.is_alone(first, 2.5 * WINDOW)
    turns.order([second], 2.6 * WINDOW)
    turns.order([second], 3.7 * WINDOW)
    assert turns.is_alone(second, 3.7 * WINDOW)
    assert not turns.is_alone(first, 3.7 * WINDOW)


@given(st.floats(1e-9, 10), st.floats(0, 1))
def test_a_turn_has_at_least_one_event_and_a_bound(cost: float, seconds: float) -> None:
    events = events_for(cost, seconds)
    assert 1 <= events <= MOST_EVENTS
    assert events == 1 or events * cost <= seconds


@given(st.floats(1e-6, 1e-4), st.floats(2e-4, 5e-3), st.integers(1, 40))
def test_a_turn_is_planned_for_the_dear_events_of_a_pod_however_many_cheap_ones_came_between(
    cheap: float, dear: float, between: int
) -> None:
    turns, share = Turns(), Share()
    turns.ran(share, 1, dear, 0.0)
    for _ in range(between):
        turns.ran(share, 1, cheap, 0.0)
    assert events_for(share.dearest, SLICE) * dear <= max(dear, 2 * SLICE)
