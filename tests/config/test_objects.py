"""The rule of what a change of files means: replaced, kept, deleted, told apart."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.manifest_files import ManifestFile
from nodeagent.config.objects import Good, ObjectSet, merge
from tests.config import builders as some
from tests.testbed import manifests

GOOD, BROKEN, OTHER = "good", "broken", "other"


def namespace(name: str, note: str = "1", *, broken: bool = False) -> str:
    document = manifests.namespace(name, annotations={"note": note})
    if broken:
        document["metadata"]["creationTimestamp"] = "yesterday"
    return some.text(document)


def notes(objects: ObjectSet) -> dict[str, str]:
    return {name: one.annotations["note"] for name, one in objects.namespaces.items()}


def test_of_two_definitions_the_first_by_file_name_is_in_force_and_the_other_is_told() -> None:
    _, objects = some.load({"b.yaml": namespace("x", "b"), "a.yaml": namespace("x", "a")})
    assert notes(objects) == {"x": "a"}
    assert [(problem.file, problem.field) for problem in objects.problems] == [("b.yaml", "metadata.name")]
    assert "already defined in a.yaml (document 1)" in objects.problems[0].message


def test_the_same_name_in_another_namespace_or_kind_is_another_object() -> None:
    documents = [*some.service("x"), *some.service("x", namespace="batch"), some.pod("shop", "x", some.WEB)]
    assert not some.load({"a.yaml": some.text(*documents)})[1].problems


def test_an_object_without_a_namespace_is_in_default() -> None:
    document = some.service("x")[0]
    del document["metadata"]["namespace"]
    assert list(some.objects(document).services) == ["default/x"]


def test_a_broken_object_keeps_its_last_good_state_wherever_it_was_defined() -> None:
    good, _ = some.load({"a.yaml": namespace("x", "old")})
    good, objects = some.load({"b.yaml": namespace("x", "new", broken=True)}, good)
    assert notes(objects) == {"x": "old"}
    assert [(broken.file, broken.last_good) for broken in objects.broken] == [("b.yaml", True)]
    assert notes(some.load({"b.yaml": namespace("x", "new", broken=True)}, good)[1]) == {"x": "old"}
    assert notes(some.load({"b.yaml": namespace("x", "new")}, good)[1]) == {"x": "new"}


def test_an_object_moved_out_of_a_file_that_cannot_be_read_is_the_new_one() -> None:
    good, _ = some.load({"a.yaml": namespace("x", "old") + "---\n" + namespace("y")})
    _, objects = some.load({"a.yaml": "a: [", "b.yaml": namespace("x", "new")}, good)
    assert notes(objects) == {"x": "new", "y": "1"}


def test_one_unreadable_document_keeps_what_its_file_defined_and_lets_the_others_change() -> None:
    good, _ = some.load({"a.yaml": namespace("x", "1") + "---\n" + namespace("y", "1")})
    good, objects = some.load({"a.yaml": namespace("x", "2") + "---\nkind: [\n"}, good)
    assert notes(objects) == {"x": "2", "y": "1"}
    assert notes(some.load({"a.yaml": namespace("x", "2")}, good)[1]) == {"x": "2"}


states = st.dictionaries(
    st.sampled_from(("a.yaml", "b.yaml")),
    st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from((GOOD, OTHER, BROKEN))), max_size=3),
    max_size=2,
)


@given(st.lists(st.tuples(states, st.booleans()), max_size=6))
def test_whatever_the_history_nothing_readable_is_lost_and_nothing_deleted_stays(
    history: list[tuple[dict[str, list[tuple[str, str]]], bool]],
) -> None:
    good: Good = {}
    for files, torn in history:
        before = {one.name for objects in good.values() for one in objects}
        contents = written(files, torn=torn)
        kept = {one.name for one in good.get("a.yaml", ())} if torn and "a.yaml" in files else set()
        empty = {name for name, documents in files.items() if not documents}
        kept |= {one.name for name in empty for one in good.get(name, ())}
        good, objects = some.load(contents, good)
        mentioned = {x: state for documents in files.values() for x, state in documents}
        whole = {x for x in mentioned if _first(files, x) != BROKEN}
        assert set(objects.namespaces) == whole | {x for x in mentioned if x in before} | kept
        for x in whole:
            assert notes(objects)[x] == _first(files, x)


@given(st.lists(st.tuples(states, st.booleans()), max_size=6))
def test_files_that_were_merged_before_merge_as_files_that_are_read_anew(
    history: list[tuple[dict[str, list[tuple[str, str]]], bool]],
) -> None:
    good: Good = {}
    again: Good = {}
    read: dict[tuple[str, str], ManifestFile] = {}
    for files, torn in history:
        contents = written(files, torn=torn)
        kept = [read.setdefault(pair, some.read(*pair)) for pair in contents.items()]
        good, objects = merge(kept, good)
        again, anew = some.load(contents, again)
        assert (good, objects) == (again, anew)


def written(files: dict[str, list[tuple[str, str]]], *, torn: bool) -> dict[str, str]:
    """`torn`: the end of a.yaml cannot be read."""
    contents = {
        name: "---\n".join(namespace(x, state, broken=state == BROKEN) for x, state in documents) + "\n"
        for name, documents in files.items()
    }
    if torn and "a.yaml" in contents:
        contents["a.yaml"] += "---\na: [\n"
    return contents


def _first(files: dict[str, list[tuple[str, str]]], name: str) -> str:
    return next(state for file in sorted(files) for x, state in files[file] if x == name)
