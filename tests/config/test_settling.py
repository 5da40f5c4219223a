"""When a changed file is worth reading: late enough to be whole, early enough to matter, and never not at all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.settling import ABANDONED, EVERYTHING, MOVED_AWAY, SETTLE, UNCLOSED, VANISHED, Change, Settling

LONGEST = {
    Change.COMPLETE: SETTLE,
    Change.WRITING: UNCLOSED,
    Change.TOUCHED: ABANDONED,  # it may touch a file that is still open
    Change.UNSTEADY: UNCLOSED,
    Change.GONE: VANISHED,
}
names = st.sampled_from(("a.yaml", "b.yaml"))
gaps = st.sampled_from((0.0, 0.001, SETTLE, VANISHED, 1.0, UNCLOSED))
events = st.lists(st.tuples(names, st.sampled_from(Change), gaps), max_size=30)


def test_a_completed_file_is_due_at_once_and_a_vanished_one_later() -> None:
    for change, delay in ((Change.COMPLETE, SETTLE), (Change.GONE, VANISHED), (Change.TOUCHED, SETTLE)):
        settling = Settling()
        settling.note("a", change, 10.0)
        assert settling.next() == 10.0 + delay
        assert settling.take_due(10.0 + delay - 0.001) == set()
        assert settling.take_due(10.0 + delay) == {"a"}
        assert settling.next() is None


def test_a_file_being_written_waits_for_its_writer_to_close_it() -> None:
    settling = Settling()
    settling.note("a", Change.COMPLETE, 0.0)
    settling.note("a", Change.WRITING, 0.001)
    assert settling.take_due(1.0) == set()
    assert settling.is_open("a")
    settling.note("a", Change.COMPLETE, 1.0)
    assert not settling.is_open("a")
    assert settling.take_due(1.0 + SETTLE) == {"a"}


def test_touching_a_file_does_not_complete_it() -> None:
    settling = Settling()
    settling.note("a", Change.WRITING, 0.0)
    settling.note("a", Change.TOUCHED, 0.001)
    assert settling.take_due(0.1) == set()


def test_a_file_that_nobody_closes_is_read_as_open_and_later_as_abandoned() -> None:
    settling = Settling()
    settling.note("a", Change.WRITING, 0.0)
    assert settling.take_due(UNCLOSED) == {"a"}
    assert settling.is_open("a")
    assert settling.is_idle()
    assert settling.next() == ABANDONED
    assert settling.take_due(ABANDONED) == {"a"}
    assert not settling.is_open("a")


def test_a_file_moved_to_a_backup_has_longer_to_come_back_than_a_deleted_one() -> None:
    settling = Settling()
    settling.moved_from("a", 7, 0.0)
    settling.moved_to_backup(7, 0.0)
    settling.moved_to_backup(8, 0.0)  # of a file that is none of ours
    assert settling.take_due(VANISHED) == set()
    assert settling.take_due(MOVED_AWAY) == {"a"}


def test_a_scan_stands_for_everything() -> None:
    settling = Settling()
    settling.scan(1.0)
    assert settling.take_due(1.0) == {EVERYTHING}


@given(events)
def test_no_change_is_ever_lost(changes: list[tuple[str, Change, float]]) -> None:
    """Whatever is noted is due within the longest delay of its kind, unless another event of that file came."""
    settling, now = Settling(), 0.0
    waiting: dict[str, float] = {}
    for name, change, gap in changes:
        settling.note(name, change, now)
        waiting[name] = now + LONGEST[change]
        now += gap
        for due in settling.take_due(now):
            if not settling.is_open(due):
                waiting.pop(due, None)
        assert all(when > now or settling.is_open(late) for late, when in waiting.items())
    while (following := settling.next()) is not None:
        for due in settling.take_due(following):
            waiting.pop(due, None)
    assert not waiting


@given(events)
def test_nothing_is_due_before_its_last_event_has_settled(changes: list[tuple[str, Change, float]]) -> None:
    settling, now = Settling(), 0.0
    last: dict[str, float] = {}
    for name, change, gap in changes:
        settling.note(name, change, now)
        if change is not Change.TOUCHED:
            last[name] = now
        now += gap
        assert all(now - last.get(due, -1.0) >= SETTLE - 1e-9 for due in settling.take_due(now))


def test_a_name_that_waits_for_a_scan_is_due_with_it_however_late_it_was_noted() -> None:
    settling = Settling()
    settling.scan(1.0)
    for name in ("a", "b"):
        settling.with_scan(name)
    assert settling.take_due(0.999) == set()
    assert settling.take_due(1.0) == {EVERYTHING, "a", "b"}
