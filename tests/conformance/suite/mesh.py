"""Which requests a route is for: Services, ports, addresses, callers."""

from __future__ import annotations

from tests.conformance.cases import CONSUMER, MESH, Case
from tests.conformance.routes import backend, match, response_headers, route, rule
from tests.conformance.suite.base import V1, V2, Test, echo, of_http

RESPONSE_HEADERS = "HTTPRouteResponseHeaderModification"
FRONTEND = (route("frontend", "echo-v2", rule(response_headers(set={"X-Header-Set": "set"}), to=V2)),)

MESH_TESTS = (
    Test("MeshBasic", "mesh-basic", (), cases=(Case(),)),
    Test(
        *of_http("MeshPorts", "mesh-ports", "HTTPRouteParentRefPort", RESPONSE_HEADERS),
        (
            route("ports-v1", "echo-v1", rule(response_headers(set={"X-Header-Set": "v1"}), to=V1), port=80),
            route("ports-v2", "echo-v2", rule(response_headers(set={"X-Header-Set": "v2"}), to=V2)),
        ),
        (
            Case(to="echo-v1", backend="echo-v1", answered={"X-Header-Set": "v1"}),
            Case(to="echo-v1:8080", backend="echo-v1", unanswered=("X-Header-Set",)),
            Case(to="echo-v2", backend="echo-v2", answered={"X-Header-Set": "v2"}),
            Case(to="echo-v2:8080", backend="echo-v2", answered={"X-Header-Set": "v2"}),
        ),
    ),
    Test(
        *of_http("MeshFrontend", "mesh-frontend", RESPONSE_HEADERS),
        FRONTEND,
        (
            Case(to="echo-v2", backend="echo-v2", answered={"X-Header-Set": "set"}),
            Case(to="echo-v2.pod:8080", backend="echo-v2", unanswered=("X-Header-Set",)),
        ),
    ),
    Test(
        *of_http("MeshFrontendHostname", "mesh-frontend-hostname", "MeshClusterIPMatching", RESPONSE_HEADERS),
        FRONTEND,
        (
            Case(to="echo-v2", sends={"Host": "echo-v1"}, backend="echo-v2", answered={"X-Header-Set": "set"}),
            Case(to="echo-v1", sends={"Host": "echo-v2"}, backend="echo-v1", unanswered=("X-Header-Set",)),
        ),
    ),
    Test(
        *of_http("MeshConsumerRoute", "mesh-consumer-route", "MeshConsumerRoute", RESPONSE_HEADERS),
        (
            route(
                "consumer",
                "echo-v1",
                rule(response_headers(set={"X-Header-Set": "set"}), to=backend("echo-v1", 80, namespace=MESH)),
                namespace=CONSUMER,
            ),
        ),
        (
            Case(to=f"echo-v1.{MESH}", client=CONSUMER, backend="echo-v1", answered={"X-Header-Set": "set"}),
            Case(to=f"echo-v1.{MESH}", backend="echo-v1", unanswered=("X-Header-Set",)),
        ),
    ),
    Test(
        *of_http("MeshTrafficSplit", "mesh-split"),
        echo(rule(match(exact="/v1"), to=V1), rule(match(exact="/v2"), to=V2), port=None),
        (Case("/v1", backend="echo-v1"), Case("/v2", backend="echo-v2")),
    ),
)
