"""One writer: who takes the Lease, when, and who stops in time.  Clocks of the candidates never agree here."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.status.election import Election, Look, Record, Seen, Timing, Wait, Write, lease_of, seen_of

WALL = "2026-01-01T00:00:00.000000Z"
TIMING = Timing()


def election(name: str = "a", jitter: float = 0.0) -> Election:
    return Election(name, lambda: jitter)


def held_by(name: str, version: str = "1", seconds: int = 15, renewed: str = WALL) -> Seen:
    return Seen(Record(name, seconds, WALL, renewed, 3), version)


def leader(now: float = 100.0) -> Election:
    one = election()
    one.step(now, WALL)
    one.looked(now, None)
    step = one.step(now, WALL)
    assert isinstance(step, Write)
    one.wrote(now, now, Seen(step.record, "1"))
    return one


def test_who_finds_no_lease_creates_it_and_leads() -> None:
    one = election()
    assert one.step(100.0, WALL) == Look()
    one.looked(100.0, None)
    assert one.step(100.0, WALL) == Write(Record("a", 15, WALL, WALL, 0), "")
    one.wrote(100.0, 100.2, Seen(Record("a", 15, WALL, WALL, 0), "1"))
    assert one.leads(100.2)
    assert one.holder == "a"


def test_a_lease_that_is_renewed_is_never_taken() -> None:
    one, now = election(), 0.0
    for number in range(50):
        assert one.step(now, WALL) == Look()
        one.looked(now, held_by("b", str(number), renewed=f"t{number}"))
        assert one.step(now, WALL) == Wait(TIMING.look)
        now += TIMING.look
    assert not one.leads(now)


def test_a_lease_is_taken_when_we_saw_no_renewal_for_as_long_as_its_holder_promised() -> None:
    one, now = election(), 1000.0
    while True:
        one.looked(now, held_by("b", "7"))
        step = one.step(now, "now")
        if isinstance(step, Write):
            break
        now += TIMING.look
        one.step(now, WALL)
    assert now == 1015.0
    assert step == Write(Record("a", 15, "now", "now", 4), "7")


@pytest.mark.parametrize("seen", [Seen(Record("", 1, WALL, WALL, 3), "9"), Seen(Record(), "9")])
def test_a_lease_that_was_given_up_is_taken_at_once(seen: Seen) -> None:
    one = election()
    one.looked(0.0, seen)
    step = one.step(0.0, WALL)
    assert isinstance(step, Write)
    assert (step.version, step.record.holder) == ("9", "a")


def test_a_holder_renews_without_looking() -> None:
    one = leader(100.0)
    assert one.step(101.0, WALL) == Wait(3.0)
    step = one.step(104.0, "later")
    assert step == Write(Record("a", 15, WALL, "later", 0), "1")


def test_one_renewal_without_an_answer_does_not_cost_the_leadership() -> None:
    one = leader(100.0)
    asked = 100.0 + TIMING.renew
    assert isinstance(one.step(asked, WALL), Write)
    one.failed(asked + TIMING.request)
    again = asked + TIMING.request + TIMING.retry
    assert isinstance(one.step(again, WALL), Look | Write)
    assert one.leads(again + 1.0), "there is time for the next to be answered"


def test_a_holder_that_cannot_renew_stops_before_another_may_begin() -> None:
    one, now = leader(100.0), 100.0
    while one.leads(now):
        if isinstance(one.step(now, WALL), Write):
            one.failed(now)
        now += 0.5
    assert now == 110.0
    assert now + TIMING.request <= 100.0 + TIMING.lease
    assert one.step(110.0, WALL) == Look()


def test_the_time_to_write_counts_from_before_the_request_that_renewed() -> None:
    one = leader(100.0)
    one.step(102.0, WALL)
    one.wrote(102.0, 106.0, held_by("a", "2"))
    assert one.leads_for(106.0) == 6.0
    assert not one.leads(112.0)


def test_who_lost_a_conflict_stops_and_looks_at_once() -> None:
    one = leader(100.0)
    one.step(102.0, WALL)
    one.failed(102.0, conflict=True)
    assert not one.leads(102.0)
    assert one.step(102.0, WALL) == Look()
    one.looked(102.0, held_by("b", "5"))
    assert isinstance(one.step(102.0, WALL), Wait)


def test_who_wrote_and_did_not_hear_of_it_finds_out() -> None:
    one = leader(100.0)
    one.step(102.0, WALL)
    one.failed(104.0)  # no answer, but it was written
    assert one.leads(104.0)
    one.step(106.0, WALL)
    one.failed(106.0, conflict=True)
    one.looked(106.0, Seen(Record("a", 15, WALL, "x", 0), "2"))
    assert one.step(106.0, "y") == Write(Record("a", 15, WALL, "y", 0), "2")


def test_a_candidate_waits_longer_by_chance() -> None:
    one = election(jitter=0.5)
    one.looked(0.0, held_by("b"))
    assert one.step(0.0, WALL) == Wait(TIMING.look * 1.6)


def test_who_ends_gives_the_lease_up() -> None:
    one = leader(100.0)
    assert one.release(101.0, "t") == Write(Record("", 1, "t", "t", 0), "1")
    assert not one.leads(101.0)
    assert election().release(101.0, "t") is None
    assert leader(100.0).release(111.0, "t") is None


def test_a_lease_is_written_and_read_as_kubernetes_has_it() -> None:
    record = Record("a", 15, WALL, "later", 2)
    made = lease_of(record, "nodeagent", "status-writer", "12")
    assert made["metadata"] == {"name": "status-writer", "namespace": "nodeagent", "resourceVersion": "12"}
    assert seen_of(made) == Seen(record, "12")
    assert "resourceVersion" not in lease_of(record, "nodeagent", "status-writer", "")["metadata"]
    assert seen_of({"metadata": {}, "spec": {"holderIdentity": None}}) == Seen(Record(), "")


# ---- all of it, with a server that keeps versions, and a network that loses questions and answers ----


@dataclass
class Server:
    seen: Seen | None = None
    version: int = 0

    def write(self, write: Write) -> Seen | None:
        """None = conflict."""
        if (self.seen.version if self.seen else "") != write.version:
            return None
        self.version += 1
        self.seen = Seen(write.record, str(self.version))
        return self.seen


@dataclass
class Candidate:
    election: Election
    ahead: float  # of its clock
    server: Server
    lossy: random.Random
    cut: list[tuple[float, float]] = field(default_factory=list)

    def act(self, now: float, wall: str) -> None:
        mine = now + self.ahead
        step = self.election.step(mine, wall)
        if isinstance(step, Wait):
            return
        if any(start <= now < end for start, end in self.cut):
            self.election.failed(mine)
        elif isinstance(step, Look):
            self.election.looked(mine, self.server.seen)
        else:
            done = self.server.write(step)
            if self.lossy.random() < 0.1:
                self.election.failed(mine)
            elif done is None:
                self.election.failed(mine, conflict=True)
            else:
                self.election.wrote(mine, mine, done)

    def leads(self, now: float) -> bool:
        return self.election.leads(now + self.ahead)


@given(
    seed=st.integers(0, 10_000),
    ahead=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=4),
    cuts=st.lists(st.tuples(st.integers(0, 3), st.floats(0, 150), st.floats(0, 60)), max_size=4),
)
def test_there_is_never_more_than_one_leader_and_mostly_there_is_one(
    seed: int, ahead: list[float], cuts: list[tuple[int, float, float]]
) -> None:
    dice, server = random.Random(seed), Server()
    everybody = [
        Candidate(Election(f"n{number}", dice.random), skew, server, dice) for number, skew in enumerate(ahead)
    ]
    for number, start, length in cuts:
        everybody[number % len(everybody)].cut.append((start, start + length))
    now = 0.0
    while now < 300:
        for one in everybody:
            one.act(now, f"t{now}")
        assert sum(one.leads(now) for one in everybody) <= 1, now
        now += 0.25 + dice.random() / 4
    led = 0
    for _ in range(200):  # what is lost now and then interrupts it
        now += 0.5
        for one in everybody:
            one.act(now, f"t{now}")
        led += sum(one.leads(now) for one in everybody)
    assert led > 120


def test_a_holder_changes_nothing_of_a_record_but_its_time() -> None:
    record = Record("a", 15, WALL, WALL, 5)
    one = election()
    one.looked(0.0, Seen(record, "4"))
    assert one.step(0.0, "t") == Write(replace(record, renewed="t"), "4")
