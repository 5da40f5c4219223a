"""A status that was to be written is written, whatever came between."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from nodeagent.config.conditions import Condition, Conditions
from nodeagent.kube.kinds import BY_NAME
from nodeagent.kube.records import encode
from nodeagent.kube.relay import Relay
from nodeagent.kube.status_writer import Counts, _Term
from nodeagent.status.digests import Digest
from tests.kube import samples

ROUTE = BY_NAME["HTTPRoute"]


def told_of(name: str) -> tuple[dict[str, Any], Conditions, str]:
    """A route whose Service does not exist, as it is said at once; and the digest of all routes."""
    parent = {"group": "", "kind": "Service", "name": "gone"}
    metadata = samples.metadata("shop", name, resourceVersion="7")
    value = {"apiVersion": ROUTE.version, "kind": ROUTE.name, "metadata": metadata, "spec": {"parentRefs": [parent]}}
    at, digest = "spec.parentRefs[0].name", Digest()
    digest.put(f"shop/{name}", metadata["uid"], 1)
    condition = Condition(
        "HTTPRoute", f"shop/{name}", "Service shop/gone", "Accepted", "False", "NoMatchingParent", "no such", at, ref=0
    )
    return value, Conditions.of([condition]), digest.text


def test_what_was_planned_when_the_leadership_was_lost_for_a_moment_is_written_after_it() -> None:
    value, conditions, digest = told_of("r")
    sent: list[str] = []

    async def send(_method: str, path: str, body: dict[str, Any], _seconds: float) -> bytes:
        sent.append(path)
        version = {"metadata": {**value["metadata"], "resourceVersion": "8"}}
        return encode({**value, **version, "status": body["status"]})

    leadership = SimpleNamespace(leads=False, request_seconds=1.0)
    api, events = SimpleNamespace(send=send), SimpleNamespace(tell=lambda _occurrences: None)
    term = _Term(cast("Any", api), Relay(), cast("Any", leadership), cast("Any", events), Counts(), "nodeagent")
    term.book.see(value)
    term.book.compiled(conditions, {"HTTPRoute": digest})

    async def story() -> None:
        await term._write_all()
        assert (sent, term.book.waiting) == ([], 1)
        leadership.leads = True
        await term._write_all()
        assert (len(sent), term.book.waiting) == (1, 0)

    asyncio.run(story())
