"""Conditions of objects as rows, in the words of Kubernetes: type, status, reason, message; with parent and field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nodeagent.config.conditions import PROGRAMMED, UNKNOWN, Condition

Row = dict[str, Any]
Said = dict[str, list[Condition]]

IN_FORCE, PENDING = "in force", "pending"


def by_object(kind: str, conditions: Iterable[Condition]) -> Said:
    """ "namespace/name" -> what is said about this object of `kind`."""
    found: Said = {}
    for one in conditions:
        if one.kind == kind:
            found.setdefault(one.object, []).append(one)
    return found


def condition_rows(said: Iterable[Condition]) -> list[Row]:
    """`parent` "" = the object as a whole, `field` "" = no field is to blame."""
    return [
        {
            "parent": one.parent,
            "type": one.type,
            "status": one.status,
            "reason": one.reason,
            "message": one.message,
            "field": one.field,
        }
        for one in said
    ]


def state_of(said: Iterable[Condition]) -> str:
    """Of an object that is accepted: whether every worker and the kernel have it as it is."""
    waiting = any(one.type == PROGRAMMED and one.status == UNKNOWN for one in said)
    return PENDING if waiting else IN_FORCE
