"""Header changes, and what a backend sees after them: shared by the rule's and the backendRef's test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.cases import Case

OTHER, ANOTHER = {"Some-Other-Header": "val"}, {"Another-Header": "another-header-val"}

# Path prefix -> what its rule changes.
HEADER_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "/set": {"set": {"X-Header-Set": "set-overwrites-values"}},
    "/add": {"add": {"X-Header-Add": "add-appends-values"}},
    "/remove": {"remove": ["X-Header-Remove"]},
    "/multiple": {
        "set": {"X-Header-Set-1": "header-set-1", "X-Header-Set-2": "header-set-2"},
        "add": {
            "X-Header-Add-1": "header-add-1",
            "X-Header-Add-2": "header-add-2",
            "X-Header-Add-3": "header-add-3",
        },
        "remove": ["X-Header-Remove-1", "X-Header-Remove-2"],
    },
    "/case-insensitivity": {
        "set": {"X-Header-Set": "header-set"},
        "add": {"X-Header-Add": "header-add"},
        "remove": ["X-Header-Remove"],
    },
}


def _case(path: str, sends: Mapping[str, str], seen: Mapping[str, str], *unseen: str) -> Case:
    return Case(path, sends=sends, backend="echo-v1", seen=seen, unseen=unseen)


HEADER_CASES = (
    _case("/set", OTHER, {**OTHER, "X-Header-Set": "set-overwrites-values"}),
    _case("/set", {**OTHER, "X-Header-Set": "some-other-value"}, {**OTHER, "X-Header-Set": "set-overwrites-values"}),
    _case("/add", OTHER, {**OTHER, "X-Header-Add": "add-appends-values"}),
    _case(
        "/add",
        {**OTHER, "X-Header-Add": "some-other-value"},
        {**OTHER, "X-Header-Add": "some-other-value,add-appends-values"},
    ),
    _case("/remove", {"X-Header-Remove": "val"}, {}, "X-Header-Remove"),
    _case(
        "/multiple",
        {
            "X-Header-Set-2": "set-val-2",
            "X-Header-Add-2": "add-val-2",
            "X-Header-Remove-2": "remove-val-2",
            **ANOTHER,
        },
        {
            "X-Header-Set-1": "header-set-1",
            "X-Header-Set-2": "header-set-2",
            "X-Header-Add-1": "header-add-1",
            "X-Header-Add-2": "add-val-2,header-add-2",
            "X-Header-Add-3": "header-add-3",
            **ANOTHER,
        },
        "X-Header-Remove-1",
        "X-Header-Remove-2",
    ),
    _case(
        "/case-insensitivity",
        {
            "x-header-set": "original-val-set",
            "x-header-add": "original-val-add",
            "x-header-remove": "original-val-remove",
            **ANOTHER,
        },
        {"X-Header-Set": "header-set", "X-Header-Add": "original-val-add,header-add", **ANOTHER},
        "X-Header-Remove",
    ),
)
