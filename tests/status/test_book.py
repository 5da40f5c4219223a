"""What there is to write, as objects, conditions and reports of nodes come in, in whichever order."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from nodeagent.config.conditions import Condition, Conditions
from nodeagent.status.acknowledgements import Acknowledgements
from nodeagent.status.book import Book, Plan
from nodeagent.status.digests import Digest
from nodeagent.status.entries import CONTROLLER

WALL = "2026-01-01T00:00:00Z"
SERVICE = {"group": "", "kind": "Service", "name": "cart"}
R = ("HTTPRoute", "shop/r")


class Server:
    """The API server's objects; every change has a version of its own."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[str, dict[str, Any]] = {}

    def route(self, name: str, *parents: Any, uid: str = "") -> dict[str, Any]:
        before = self.objects.get(name)
        generation = before["metadata"]["generation"] + 1 if before else 1
        status = before["status"] if before else {}
        metadata = {"namespace": "shop", "name": name, "uid": uid or f"uid-{name}", "generation": generation}
        spec = {"parentRefs": list(parents or [SERVICE])}
        self.objects[name] = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": metadata,
            "spec": spec,
            "status": status,
        }
        return self.stamped(name)

    def stamped(self, name: str) -> dict[str, Any]:
        self.version += 1
        self.objects[name]["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.objects[name])

    def write(self, plan: Plan) -> dict[str, Any]:
        one = self.objects[plan.subject.name]
        assert plan.patch["metadata"]["resourceVersion"] == one["metadata"]["resourceVersion"]
        one["status"] |= plan.patch["status"]
        return self.stamped(plan.subject.name)

    def digests(self) -> dict[str, str]:
        digest = Digest()
        for name, one in self.objects.items():
            digest.put(f"shop/{name}", one["metadata"]["uid"], one["metadata"]["generation"])
        return {"HTTPRoute": digest.text}


def good(name: str = "r", ref: int = 0, generation: int = 1) -> list[Condition]:
    parent = ("HTTPRoute", f"shop/{name}", "Service shop/cart")
    return [
        Condition(*parent, "Accepted", "True", "Accepted", generation=generation, ref=ref),
        Condition(*parent, "ResolvedRefs", "True", "ResolvedRefs", generation=generation, ref=ref),
        Condition(*parent, "Programmed", "Unknown", "Pending", generation=generation, ref=ref),
    ]


def bad(name: str = "r") -> list[Condition]:
    at = "spec.parentRefs[0].name"
    parent = ("HTTPRoute", f"shop/{name}", "Service shop/cart")
    return [Condition(*parent, "Accepted", "False", "NoMatchingParent", "no such Service", at, ref=0)]


def plans(book: Book, now: float = 0.0) -> list[Plan]:
    book.look_again(now)
    return [plan for key in book.dirty() if (plan := book.plan(key, now, WALL))]


def said(one: dict[str, Any]) -> dict[str, tuple[str, str]]:
    (entry,) = one["status"]["parents"]
    return {one["type"]: (one["status"], one["reason"]) for one in entry["conditions"]}


def settled(server: Server, *conditions: Condition) -> Book:
    """A book for which everything is written, and confirmed by n1."""
    book = Book(grace=0.0)
    for one in list(server.objects.values()):
        book.see(copy.deepcopy(one))
    book.compiled(Conditions.of(conditions), server.digests())
    book.report("n1", server.digests())
    for plan in plans(book):
        book.tried(plan, server.write(plan))
    assert plans(book) == []
    return book


def test_an_object_is_accepted_first_and_programmed_when_the_nodes_confirm() -> None:
    server, book = Server(), Book(grace=0.0)
    book.see(server.route("r"))
    book.report("n1", {"HTTPRoute": Digest().text})
    book.compiled(Conditions.of(good()), server.digests())
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Accepted"] == ("True", "Accepted")
    assert said(server.objects["r"])["Programmed"] == ("Unknown", "Pending")
    assert plans(book) == []
    book.report("n1", server.digests())
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("True", "Programmed")
    assert (plans(book), book.dirty()) == ([], [])


def test_of_our_own_node_we_know_better_than_its_mesh_node() -> None:
    server, book = Server(), Book(grace=0.0)
    before = server.digests()
    book.see(server.route("r"))
    book.compiled(Conditions.of(good()), server.digests())
    assert book.enforced_here("n1", server.digests())
    for older in (before, None):  # what its MeshNode says comes later, or it is gone
        book.report("n1", older)
    book.reporting([])
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("True", "Programmed")
    assert not book.enforced_here("n1", server.digests())
    book.report("n2", before)
    server.route("r")
    book.see(copy.deepcopy(server.objects["r"]))
    book.enforced_here("n1", server.digests())
    book.compiled(Conditions.of(good(generation=2)), server.digests())
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("Unknown", "Pending"), "the other node has yet to confirm it"


def test_nothing_is_written_while_nothing_changes() -> None:
    server = Server()
    server.route("r")
    book = settled(server, *good())
    book.see(copy.deepcopy(server.objects["r"]))
    book.compiled(Conditions.of(good(generation=77)), server.digests())
    book.report("n1", server.digests())
    book.nodes({"n1": True})
    assert plans(book, 1000.0) == []


def test_conditions_that_are_older_than_the_object_are_not_written() -> None:
    server = Server()
    server.route("r")
    book = settled(server, *good())
    before = server.digests()
    book.see(server.route("r"))
    book.compiled(Conditions.of(bad()), before)  # of another change, before this one
    assert plans(book) == []
    book.compiled(Conditions.of(bad()), server.digests())
    (plan,) = plans(book)
    assert plan.patch["status"]["parents"][0]["conditions"][0]["observedGeneration"] == 2


def test_conditions_that_overtake_the_object_wait_for_it() -> None:
    server = Server()
    server.route("r")
    server.route("other")
    book = settled(server, *good(), *good("other"))
    newer = server.route("other")
    book.compiled(Conditions.of([*bad(), *good("other")]), server.digests())
    assert plans(book) == []
    book.see(newer)
    assert sorted(plan.subject.name for plan in plans(book)) == ["other", "r"]


def test_a_new_writer_does_not_take_back_what_an_earlier_one_saw_confirmed() -> None:
    server = Server()
    server.route("r")
    settled(server, *good())
    book = Book(grace=0.0)
    book.see(copy.deepcopy(server.objects["r"]))
    book.compiled(Conditions.of(good()), server.digests())
    assert plans(book) == []  # although no node has reported to it yet


def test_a_node_that_confirmed_an_earlier_point_only_is_waited_for() -> None:
    server = Server()
    server.route("r")
    book = settled(server, *good())
    before = server.digests()
    book.see(server.route("r"))
    book.compiled(Conditions.of(good()), server.digests())
    book.report("n1", server.digests())
    book.report("n2", before)
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("Unknown", "Pending")
    book.nodes({"n1": True, "n2": False})  # it is NotReady: no reason to wait
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("True", "Programmed")


def test_a_node_that_never_confirms_is_named() -> None:
    server = Server()
    server.route("r")
    book = Book(Acknowledgements(patience=30.0), grace=0.0)
    book.see(copy.deepcopy(server.objects["r"]))
    book.compiled(Conditions.of(good()), server.digests())
    book.report("n1", {})
    for plan in plans(book):
        book.tried(plan, server.write(plan))
    assert book.acknowledgements.due(10.0) == 20.0
    assert plans(book, 29.9) == []
    (plan,) = plans(book, 30.0)
    assert plan.occurrences[0].reason == "PartiallyProgrammed"
    assert "n1" in plan.occurrences[0].note


def test_a_parent_that_is_accepted_only_now_has_to_be_confirmed_again() -> None:
    server = Server()
    server.route("r")
    book = settled(server, *bad())
    assert said(server.objects["r"]) == {"Accepted": ("False", "NoMatchingParent")}
    book.compiled(Conditions.of(good()), server.digests())
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("True", "Programmed")  # n1 has this generation
    book.compiled(Conditions.of(bad()), server.digests())
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"]) == {"Accepted": ("False", "NoMatchingParent")}


def test_a_reject_is_told_once_with_its_field() -> None:
    server, book = Server(), Book(grace=0.0)
    book.see(server.route("r"))
    book.compiled(Conditions.of(bad()), server.digests())
    (plan,) = plans(book)
    (told,) = plan.occurrences
    assert told.note == "spec.parentRefs[0].name: no such Service (Service cart)"
    assert (told.regarding.kind, told.regarding.uid) == ("HTTPRoute", "uid-r")
    book.tried(plan, server.write(plan))
    newer = Book(grace=0.0)
    newer.see(copy.deepcopy(server.objects["r"]))
    newer.compiled(Conditions.of(bad()), server.digests())
    assert plans(newer) == []


def test_an_answer_that_is_overtaken_by_an_event_changes_nothing() -> None:
    server, book = Server(), Book(grace=0.0)
    old = server.route("r")
    newer = server.route("r", SERVICE, {**SERVICE, "name": "fish"})
    book.see(newer)
    book.see(old)
    book.compiled(Conditions.of([*good(), *good(ref=1)]), server.digests())
    (plan,) = plans(book)
    assert len(plan.patch["status"]["parents"]) == 2


def test_a_deleted_object_is_forgotten_and_a_new_one_of_its_name_is_another() -> None:
    server = Server()
    server.route("r")
    book = settled(server, *good())
    book.gone(*R)
    book.gone(*R)
    assert plans(book) == []
    del server.objects["r"]
    book.see(server.route("r", uid="another"))
    assert plans(book) == []  # conditions are of the first one
    book.compiled(Conditions.of(good()), server.digests())
    (plan,) = plans(book)
    assert plan.subject.uid == "another"


def test_what_a_list_does_not_have_is_gone() -> None:
    server = Server()
    server.route("r")
    server.route("other")
    book = settled(server, *good(), *good("other"))
    del server.objects["other"]
    book.listed("HTTPRoute", ["shop/r"])
    book.compiled(Conditions.of(good()), server.digests())
    book.report("n1", server.digests())
    assert plans(book) == []
    assert book.waiting == 0


def test_a_node_that_is_deleted_is_not_waited_for() -> None:
    server = Server()
    server.route("r")
    book = settled(server, *good())
    book.report("n2", {})
    book.see(server.route("r"))
    book.compiled(Conditions.of(good()), server.digests())
    book.report("n1", server.digests())
    for plan in plans(book):
        book.tried(plan, server.write(plan))
    book.reporting(["n1"])
    (plan,) = plans(book)
    assert plan.patch["status"]["parents"][0]["conditions"][-1]["status"] == "True"


def test_entries_of_other_controllers_survive_whatever_we_write() -> None:
    server, book = Server(), Book(grace=0.0)
    others = {"parentRef": {"name": "edge"}, "controllerName": "example.com/gateway", "conditions": []}
    server.route("r", {"name": "edge"}, SERVICE)
    server.objects["r"]["status"] = {"parents": [others]}
    book.see(server.stamped("r"))
    book.compiled(Conditions.of(good(ref=1)), server.digests())
    (plan,) = plans(book)
    written = plan.patch["status"]["parents"]
    assert written[0] == others
    assert [one["controllerName"] for one in written] == ["example.com/gateway", CONTROLLER]


def test_a_node_with_an_agent_that_has_not_reported_yet_is_waited_for() -> None:
    server, book = Server(), Book(grace=0.0)
    book.see(server.route("r"))
    book.nodes({"n1": True, "n2": True, "n3": True}, expected=["n1", "n2"])  # none is on n3
    book.compiled(Conditions.of(good()), server.digests())
    book.report("n1", server.digests())
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("Unknown", "Pending")
    book.report("n2", server.digests())
    (plan,) = plans(book)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("True", "Programmed")


def confirmed_by_one_of_two() -> tuple[Server, Book]:
    """At second 0."""
    server, book = Server(), Book(grace=1.0)
    book.see(server.route("r"))
    book.report("n1", server.digests())
    book.report("n2", {})
    book.compiled(Conditions.of(good()), server.digests())
    assert (plans(book, 0.0), book.dirty(), book.waiting) == ([], [], 1)
    return server, book


def test_what_nodes_confirm_in_a_moment_is_written_once() -> None:
    server, book = confirmed_by_one_of_two()
    assert (plans(book, 0.5), book.due(0.5)) == ([], 0.5)
    book.report("n2", server.digests())
    (plan,) = plans(book, 0.6)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("True", "Programmed")
    assert (plans(book, 9.0), book.waiting, book.due(9.0)) == ([], 0, None)


def test_what_nodes_do_not_confirm_in_a_moment_is_pending() -> None:
    server, book = confirmed_by_one_of_two()
    (plan,) = plans(book, 1.0)
    book.tried(plan, server.write(plan))
    assert said(server.objects["r"])["Programmed"] == ("Unknown", "Pending")
    assert plans(book, 1.1) == []


def test_an_object_that_changes_all_the_time_is_not_held_for_ever() -> None:
    server, book = confirmed_by_one_of_two()
    for now in (0.4, 0.8):
        book.see(server.route("r"))
        book.compiled(Conditions.of(good()), server.digests())
        assert plans(book, now) == []
    book.see(server.route("r"))
    book.compiled(Conditions.of(good()), server.digests())
    (plan,) = plans(book, 1.2)
    assert plan.subject.generation == 4


def test_a_reject_is_written_at_once() -> None:
    server, book = Server(), Book(grace=1.0)
    book.see(server.route("r", SERVICE, {**SERVICE, "name": "nope"}))
    book.compiled(Conditions.of([*good(), *(replace(one, ref=1) for one in bad())]), server.digests())
    (plan,) = plans(book)
    assert len(plan.occurrences) == 1


def under_way() -> tuple[Server, Book, Plan]:
    """The write of an accepted route, of which the API server has not heard yet."""
    server, book = Server(), Book(grace=0.0)
    book.see(server.route("r"))
    book.compiled(Conditions.of(good()), server.digests())
    (plan,) = plans(book)
    return server, book, plan


@pytest.mark.parametrize("order", ["answer", "event"])
def test_what_a_write_made_of_an_object_is_not_looked_at_again(order: str) -> None:
    server, book, plan = under_way()
    after = server.write(plan)
    if order == "event":
        assert not book.see(after)
    book.tried(plan, after)
    assert not book.see(after)
    assert (book.dirty(), book.waiting) == ([], 0)


def test_what_somebody_wrote_after_us_is_looked_at_although_our_answer_comes_late() -> None:
    server, book, plan = under_way()
    answer = server.write(plan)
    server.objects["r"]["status"] = {}
    assert book.see(server.stamped("r"))
    book.tried(plan, answer)
    assert [one.subject.name for one in plans(book)] == ["r"]


def test_what_becomes_known_while_a_write_is_under_way_is_written_after_it() -> None:
    server, book, plan = under_way()
    book.compiled(Conditions.of(bad()), server.digests())
    book.tried(plan, server.write(plan))
    (plan,) = plans(book)
    assert plan.patch["status"]["parents"][0]["conditions"][0]["status"] == "False"


def test_what_was_not_written_is_looked_at_again() -> None:
    _, book, plan = under_way()
    assert (book.dirty(), book.waiting) == ([], 1)
    book.tried(plan, None)
    assert [one.patch for one in plans(book)] == [plan.patch]
    book.gone(*R)
    book.tried(plan, None)
    assert (book.dirty(), book.waiting) == ([], 0)


def test_an_answer_that_comes_after_the_objects_end_brings_nothing_back() -> None:
    """Else its kind would never again be as nodes have it, and nothing more of it be written."""
    server, book, plan = under_way()
    answer = server.write(plan)
    book.gone(*R)
    assert not book.tried(plan, answer)
    del server.objects["r"]
    book.see(server.route("other"))
    book.compiled(Conditions.of(good("other")), server.digests())
    assert [one.subject.name for one in plans(book)] == ["other"]


def test_a_write_that_failed_is_not_held_again() -> None:
    _, book = confirmed_by_one_of_two()
    (plan,) = plans(book, 1.0)
    book.tried(plan, None)
    assert [one.patch for one in plans(book, 1.2)] == [plan.patch]


def test_an_answer_that_is_not_as_it_was_written_is_looked_at() -> None:
    server, book, plan = under_way()
    answer = server.write(plan)
    answer["status"]["parents"][0]["conditions"].pop()  # the API server's definition is older
    assert book.tried(plan, answer)
    assert book.dirty() == [R]


def test_what_another_wrote_meanwhile_is_held_no_longer() -> None:
    """A writer that was elected before us, say."""
    server, book = confirmed_by_one_of_two()
    other = Book(grace=0.0)
    other.see(copy.deepcopy(server.objects["r"]))
    other.report("n2", {})
    other.compiled(Conditions.of(good()), server.digests())
    (plan,) = plans(other)
    book.see(server.write(plan))
    assert (plans(book, 0.5), book.waiting) == ([], 0)
