"""A made-up cluster of any size as manifests, and changes of one object in it.

Ten pods behind each Service, ten namespaces; every fourth Service has a route to itself and another, every tenth an
authorization rule.  Addresses are of 10.0.0.0/8: nobody dials them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.testbed import manifests
from tests.testbed.manifests import Document, Manifests

EACH = 10  # pods of a Service
PER_FILE = 200  # objects; a file of ours is far below what one may hold
NOWHERE = Path()


def namespace(number: int) -> str:
    return f"ns{number % 10}"


def vip(number: int) -> str:
    return f"10.200.{number >> 8}.{number & 255}"


def address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def hosts(number: int) -> list[str]:
    return [address(number * EACH + one) for one in range(EACH)]


def service(number: int, port: int = 80) -> Document:
    return manifests.service(namespace(number), f"s{number}", [vip(number)], port=port)


def endpoint_slice(number: int, ready: int = EACH) -> Document:
    return manifests.endpoint_slice(namespace(number), f"s{number}", hosts(number)[:ready])


def pod(number: int, one: int, account: str = "") -> Document:
    name = f"s{number}-{one}"
    document = manifests.pod(
        namespace(number),
        name,
        [hosts(number)[one]],
        NOWHERE,
        service_account=account or f"s{number}",
        workload=f"s{number}",
    )
    del document["metadata"]["annotations"]  # it lives on another node
    return document


def route(number: int, weight: int = 50) -> Document:
    backends = [manifests.backend(f"s{number}", weight), manifests.backend(f"s{number + EACH}", 100 - weight)]
    rules = [
        {"matches": [{"path": {"type": "PathPrefix", "value": "/canary"}}], "backendRefs": backends},
        {"backendRefs": backends[:1]},
    ]
    return manifests.http_route(namespace(number), f"r{number}", f"s{number}", rules)


def policy(number: int, method: str = "DELETE") -> Document:
    source = {"serviceAccount": {"namespace": namespace(number), "name": "nobody"}}
    return manifests.authorization_policy(
        namespace(number),
        f"p{number}",
        f"s{number}",
        action="DENY",
        level="Application",
        rules=[{"sources": [source], "http": {"methods": [method]}}],
    )


def documents(services: int, left_out: range) -> Iterator[Document]:
    """All but what belongs to the Services `left_out`, which are written one object a file."""
    yield from (manifests.namespace(namespace(number)) for number in range(10))
    for number in (number for number in range(services) if number not in left_out):
        yield from of_service(number)


def of_service(number: int) -> Iterator[Document]:
    yield service(number)
    yield endpoint_slice(number)
    yield from (pod(number, one) for one in range(EACH))
    if number % 4 == 0:
        yield route(number)
    if number % 10 == 0:
        yield policy(number)


def write(directory: Manifests, services: int, alone: range) -> None:
    batch: list[Document] = []
    for count, document in enumerate(documents(services, alone), start=1):
        batch.append(document)
        if len(batch) == PER_FILE:
            directory.write(f"50-{count:06}.yaml", *batch)
            batch = []
    if batch:
        directory.write("50-last.yaml", *batch)
    for number in alone:
        for document in of_service(number):
            write_alone(directory, document)


def write_alone(directory: Manifests, document: Document) -> None:
    metadata = document["metadata"]
    directory.write(f"60-{document['kind']}-{metadata['namespace']}-{metadata['name']}.yaml", document)
