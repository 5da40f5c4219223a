"""Puts the objects of `bench.kube_objects` on an API server, as many at a time as it takes, and removes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any

from bench import kube_objects
from bench.cluster import EACH
from bench.errors import ChildFailedError
from nodeagent.kube.api import ApiError
from nodeagent.kube.client import Client
from tests.testbed.manifests import Document

AT_ONCE = 24
SECONDS = 30.0  # of one request
TRIES = 5
CONFLICT, FORBIDDEN = 409, 403
PLURALS = {
    "Namespace": "namespaces",
    "Node": "nodes",
    "ServiceAccount": "serviceaccounts",
    "Service": "services",
    "EndpointSlice": "endpointslices",
    "HTTPRoute": "httproutes",
    "AuthorizationPolicy": "authorizationpolicies",
    "TrafficPolicy": "trafficpolicies",
    "RateLimitPolicy": "ratelimitpolicies",
    "Pod": "pods",
}


async def fill(client: Client, services: int) -> None:
    """Objects that are there already stay as they are, and pods come last.  Raises ChildFailedError."""
    if await _pods(client) >= services * EACH:
        return
    await _create(client, [*kube_objects.namespaces(), *kube_objects.nodes(services)])
    await _create(client, map(kube_objects.account, range(services)))
    await _create(client, map(kube_objects.service, range(services)))
    await _create(client, map(kube_objects.endpoint_slice, range(services)))
    await _create(client, kube_objects.rules(services))
    owners = await _accounts(client)
    pods = ((number, one) for number in range(services) for one in range(EACH))
    await _all(_pod(client, number, one, owners[f"s{number}"]) for number, one in pods)


async def patch(client: Client, document: Document) -> None:
    """What differs between two turns of an object."""
    fields = {key: one for key, one in document.items() if key in ("spec", "endpoints")}
    await client.send("PATCH", f"{collection(document)}/{document['metadata']['name']}", fields, SECONDS)


def collection(document: Document) -> str:
    version, namespace = document["apiVersion"], document["metadata"].get("namespace")
    top = f"/{'apis' if '/' in version else 'api'}/{version}"
    return f"{top}/{f'namespaces/{namespace}/' if namespace else ''}{PLURALS[document['kind']]}"


async def _pods(client: Client) -> int:
    """How many there are."""
    found = json.loads(await client.get("/api/v1/pods", {"limit": "1"}))
    return len(found["items"]) + int(found["metadata"].get("remainingItemCount") or 0)


async def _accounts(client: Client) -> dict[str, str]:
    """The uid of each ServiceAccount by its name."""
    found = json.loads(await client.get("/api/v1/serviceaccounts", {}))
    return {one["metadata"]["name"]: one["metadata"]["uid"] for one in found["items"]}


async def _create(client: Client, documents: Iterable[Document]) -> None:
    await _all(_made(client, document) for document in documents)


async def _pod(client: Client, number: int, one: int, owner: str) -> None:
    document = kube_objects.pod(number, one, owner)
    if await _made(client, document):
        path = f"{collection(document)}/{document['metadata']['name']}/status"
        await client.send("PATCH", path, {"status": kube_objects.status(number, one)}, SECONDS)


async def _made(client: Client, document: Document) -> bool:
    """False = it was there already.  A namespace's objects may be refused for a moment after it was made."""
    for left in reversed(range(TRIES)):
        try:
            await client.send("POST", collection(document), document, SECONDS)
        except ApiError as error:
            if error.status == CONFLICT:
                return False
            if error.status != FORBIDDEN or not left:
                what = f"{document['kind']} {document['metadata']['name']}"
                raise ChildFailedError(f"the API server does not take {what}: {error.status} {error}") from error
            await asyncio.sleep(0.5)
        else:
            return True
    return False


async def _all(work: Iterable[Awaitable[Any]]) -> None:
    """AT_ONCE at a time; the first failure ends it."""
    rest: Iterator[Awaitable[Any]] = iter(work)

    async def some() -> None:
        for one in rest:
            await one

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
