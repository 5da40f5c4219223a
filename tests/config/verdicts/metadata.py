"""`metadata`, which every kind has: names, labels, annotations, owners."""

from __future__ import annotations

from tests.config.verdicts.cases import GONE, Case, bad, cases, good
from tests.config.verdicts.traffic_policy import BASE

_OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1"}
_LABELS = "metadata.labels"
_NOTES = "metadata.annotations"

CASES: list[Case] = cases(
    {**BASE, "metadata": {"name": "metadata", "namespace": "verdicts"}},
    [
        good({"metadata.name": "a.b-c.1"}),
        good({"metadata.name": "x" * 253}),
        bad("metadata.name", "x" * 254),
        *(bad("metadata.name", one) for one in ("A", "a_b", "-a", "a-", "a..b", ".a", "a/b", 5)),
        bad("metadata.name", GONE),
        bad("metadata", GONE),
        bad("metadata.nmae", "x"),
        good({_LABELS: {"a": "", "a.b/c_d.e": "X-y_z.1", "x" * 63: "y" * 63, "p" * 253 + "/" + "x" * 63: "1"}}),
        good({_LABELS: None, _NOTES: {}}),
        *(
            bad(_LABELS, {key: "v"})
            for key in ("", "a b", "-a", "a/b/c", "/a", "a/", "A/b", "x" * 64, "p" * 254 + "/x", "a.b./c")
        ),
        *(bad(_LABELS, {"k": value}) for value in ("a b", "-", "a-", "x" * 64, "\u00e9", "a/b")),
        bad(_LABELS, {"k": 1}),
        bad(_LABELS, {"k": True}),
        bad(_LABELS, ["a"]),
        good({_NOTES: {"a/b": "any text \u00e9\n" * 100, "UPPER.case/X": ""}}),
        bad(_NOTES, {"a b": ""}),
        bad(_NOTES, {"k": 1}),
        good({_NOTES: {"k": "x" * 262143}}),
        bad(_NOTES, {"k": "x" * 262144}),
        good({"metadata.creationTimestamp": "2026-01-31T12:00:00Z"}),
        good({"metadata.creationTimestamp": None}),
        bad("metadata.creationTimestamp", "yesterday"),
        bad("metadata.creationTimestamp", 5),
        good({"metadata.generation": 7}),
        bad("metadata.generation", "7"),
        good({"metadata.finalizers": ["example.com/a"]}),
        bad("metadata.finalizers", "a/b"),
        good({"metadata.ownerReferences": [_OWNER, {**_OWNER, "uid": "2", "controller": True}]}),
        *(
            bad("metadata.ownerReferences", [{**_OWNER, name: ""}], at="metadata.ownerReferences[0]")
            for name in _OWNER
        ),
        bad("metadata.ownerReferences", [{**_OWNER, "controller": "yes"}]),
        bad("metadata.ownerReferences", [{**_OWNER, "controler": True}]),
    ],
)
