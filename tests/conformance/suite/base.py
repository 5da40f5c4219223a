"""What a test is, and words that several of them share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.conformance.cases import Case
from tests.conformance.features import CORE, GRPC
from tests.conformance.routes import backend, route
from tests.testbed.manifests import Document


@dataclass(frozen=True)
class Test:
    """One upstream test.  `source` is its file, which may hold two of them."""

    __test__ = False  # not a test class, whatever its name

    name: str
    source: str
    features: tuple[str, ...]  # beside Mesh
    routes: tuple[Document, ...] = ()
    cases: tuple[Case, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)  # of the answers to the first case, by pod

    @property
    def is_grpc(self) -> bool:
        return GRPC in self.features

    @property
    def is_core(self) -> bool:
        return set(self.features) <= set(CORE)


V1, V2 = backend("echo-v1", 80), backend("echo-v2", 80)
V1_ALT, V2_ALT = backend("echo-v1", 8080), backend("echo-v2", 8080)


def echo(*rules: Document, port: int | None = 80) -> tuple[Document, ...]:
    """One route for the Service echo."""
    return (route("echo", "echo", *rules, port=port),)


def of_http(name: str, source: str, *features: str) -> tuple[str, str, tuple[str, ...]]:
    """The first fields of a Test that needs HTTPRoute."""
    return name, source, ("HTTPRoute", *features)
