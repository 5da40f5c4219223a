"""Tables -> ObjectSet -> snapshot: however objects came, the same is in force as if they had come in one list."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.groundwork import Groundwork, lay
from nodeagent.config.objects import ObjectSet
from nodeagent.kube.cluster import Cluster
from nodeagent.kube.judging import Item, judge
from nodeagent.kube.kinds import BY_NAME
from nodeagent.kube.table import Change
from tests.config import builders as some
from tests.config.test_incremental import base, document
from tests.kube import samples
from tests.testbed.manifests import Document

Step = tuple[str, Document]
step: st.SearchStrategy[Step] = st.tuples(st.sampled_from(("put", "put", "put", "remove")), document)


def item(value: Document, known: Callable[[str], int | None] = lambda _key: None) -> Item:
    kind = BY_NAME[value["kind"]]
    return judge(kind, samples.record(kind, value), "n1", known)


@dataclass
class Disk:
    """As nodeagent.kube.last_good writes rows."""

    rows: dict[tuple[str, str], tuple[bytes | None, bytes | None]] = field(default_factory=dict)

    def note(self, change: Change) -> None:
        key = (change.identity.kind, change.identity.key)
        good = self.rows.get(key, (None, None))[0] if change.keep else change.good
        self.rows[key] = good, change.broken
        if self.rows[key] == (None, None):
            del self.rows[key]


@dataclass
class Scene:
    disk: Disk = field(default_factory=Disk)
    ground: Groundwork | None = None
    generation: int = 0

    def __post_init__(self) -> None:
        self.cluster = Cluster(self.disk.note)

    def take(self, values: Iterable[Step]) -> None:
        for what, value in values:
            table = self.cluster.tables[value["kind"]]
            one = item(value, table.mark)
            if what == "put":
                table.put(one)
            else:
                table.remove(one.identity)

    def rebuilt(self) -> ObjectSet:
        """The same objects in one list, in an API server's order."""
        other = Cluster(lambda _change: None)
        for name, table in self.cluster.tables.items():
            for key in sorted(table.view):
                other.tables[name]._set(key, table.view[key])
            other.tables[name]._broken.update({one.identity.key: one for one in table.broken})
            other.tables[name]._broken_view = None
        return other.objects()

    def compile(self) -> None:
        self.generation += 1
        objects = self.cluster.objects()
        self.ground = lay(objects, self.ground)
        found = compile_objects(objects, self.generation, groundwork=self.ground)
        again = compile_objects(self.rebuilt(), self.generation)
        assert found[0] == again[0]
        assert some.said(found[1]) == some.said(again[1])


@given(st.lists(st.lists(step, max_size=4), min_size=1, max_size=10))
def test_any_order_of_events_comes_to_what_one_list_makes(turns: list[list[Step]]) -> None:
    scene = Scene()
    scene.take([("put", value) for value in base()])
    scene.compile()
    for turn in turns:
        before = scene.cluster.objects()
        scene.take(turn)
        scene.compile()
        assert scene.cluster.objects() is scene.cluster.objects()
        if not turn:
            assert scene.cluster.objects() is before


@given(st.lists(step, max_size=12))
def test_what_the_disk_keeps_comes_back_as_it_was(steps: list[Step]) -> None:
    scene = Scene()
    scene.take(steps)
    restored = Cluster(lambda _change: None)
    for (kind, _), (good, broken) in scene.disk.rows.items():
        for row in (good, broken):
            if row is not None:
                value = samples.decoded(row)
                restored.tables[kind].restore(item(value))
    wanted, found = scene.cluster.objects(), restored.objects()
    assert found == wanted
    assert [one.last_good for one in found.broken] == [one.last_good for one in wanted.broken]


def test_two_changes_that_were_not_written_yet_are_one() -> None:
    """Good, then broken: the disk gets both.  Deleted, then broken: nothing of before is the last good state."""
    identity = item(samples.policy("shop", "p")).identity
    good, gone = Change(identity, good=b"1"), Change(identity)
    broken, never = Change(identity, broken=b"2", keep=True), Change(identity, broken=b"2")
    assert broken.after(good) == Change(identity, b"1", b"2")
    assert broken.after(None) == broken
    assert broken.after(broken) == broken
    assert never.after(gone) == never
    assert gone.after(good) == gone
    assert good.after(gone) == good
