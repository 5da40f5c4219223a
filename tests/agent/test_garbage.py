from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from nodeagent.agent.garbage import Freezer


@pytest.fixture(autouse=True)
def _thaw_afterwards() -> Iterator[None]:
    """The collector belongs to the whole test run."""
    gc.unfreeze()
    yield
    gc.unfreeze()


class Cycle:
    def __init__(self) -> None:
        self.itself = self


def test_what_stays_is_not_walked_any_more_and_what_is_garbage_is_not_kept() -> None:
    gone = weakref.ref(Cycle())
    stays = [Cycle() for _ in range(1000)]
    Freezer().freeze()
    assert gone() is None
    assert gc.get_freeze_count() > len(stays)
    assert len(gc.get_objects()) < 1000  # what the next full collection would look at


def test_an_object_outside_of_cycles_goes_at_once_although_it_was_frozen() -> None:
    class Plain:
        pass

    plain = Plain()
    gone = weakref.ref(plain)
    Freezer().freeze()
    del plain
    assert gone() is None


def test_a_frozen_cycle_that_became_garbage_goes_with_a_later_thaw() -> None:
    cycle = Cycle()
    gone = weakref.ref(cycle)
    freezer = Freezer(thaw_every=3, pause=0)
    freezer.freeze()
    del cycle
    freezer.freeze()
    assert gone() is not None
    freezer.freeze()
    assert gone() is None


def test_soon_after_a_freeze_the_next_one_waits_once_the_configuration_is_there() -> None:
    now = [100.0]
    freezer = Freezer(pause=10, clock=lambda: now[0])
    for _ in range(3):
        freezer.freeze()

    def collected() -> bool:
        gone = weakref.ref(Cycle())
        freezer.freeze()
        return gone() is None

    gc.disable()
    try:
        now[0] = 109.0
        assert not collected()
        now[0] = 110.0
        assert collected()
    finally:
        gc.enable()
