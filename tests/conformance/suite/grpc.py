"""The tests of the profile MESH-GRPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.cases import Case
from tests.conformance.features import GRPC
from tests.conformance.routes import backend, match, request_headers, route, rule
from tests.conformance.suite.base import Test

METHOD = "/conformance.Echo/Echo"  # what the peer is called by; no rule looks at it
PORT = 7070
SUCCESS = {"grpc-status": "0"}  # a trailer
V1, V2 = backend("echo-v1", PORT), backend("echo-v2", PORT)

# x-test-case -> what its rule changes, and the backend it leads to.
CHANGES: Mapping[str, tuple[Mapping[str, Any], dict[str, Any]]] = {
    "set": ({"set": {"x-header-set": "set-overwrites-values"}}, V1),
    "add": ({"add": {"x-header-add": "add-appends-values"}}, V1),
    "remove": ({"remove": ["x-header-remove"]}, V1),
    "multi": (
        {
            "set": {"x-header-set-1": "header-set-1", "x-header-set-2": "header-set-2"},
            "add": {"x-header-add-1": "header-add-1", "x-header-add-2": "header-add-2"},
            "remove": ["x-header-remove-1", "x-header-remove-2"],
        },
        V2,
    ),
}


def _case(name: str, sends: Mapping[str, str], seen: Mapping[str, str], *unseen: str) -> Case:
    kind = {"x-test-case": name}
    to = CHANGES[name][1]["name"]
    return Case(
        METHOD,
        f"echo:{PORT}",
        {**kind, **sends},
        backend=to,
        seen={**kind, **seen},
        unseen=unseen,
        answered=SUCCESS,
        protocol="grpc",
    )


GRPC_TESTS = (
    Test(
        "MeshGRPCRouteWeight",
        "grpcroute-weight",
        (GRPC,),
        (
            route(
                "grpc-weight",
                "echo",
                rule(to=(backend("echo-v1", PORT, weight=70), backend("echo-v2", PORT, weight=30))),
                port=PORT,
                kind=GRPC,
            ),
        ),
        (Case(METHOD, f"echo:{PORT}", answered=SUCCESS, protocol="grpc"),),
        {"echo-v1": 0.7, "echo-v2": 0.3},
    ),
    Test(  # of the main branch: not in v1.6.3
        "MeshGRPCRouteRequestHeaderModifier",
        "grpcroute-request-header-modifier",
        (GRPC,),
        (
            route(
                "grpc-headers",
                "echo",
                *(
                    rule(match(headers={"x-test-case": name}), request_headers(**changes), to=to)
                    for name, (changes, to) in CHANGES.items()
                ),
                port=PORT,
                kind=GRPC,
            ),
        ),
        (
            _case(
                "set",
                {"some-other-header": "is-kept", "x-header-set": "is-overwritten"},
                {"some-other-header": "is-kept", "x-header-set": "set-overwrites-values"},
            ),
            _case("add", {"x-header-add": "is-kept"}, {"x-header-add": "is-kept,add-appends-values"}),
            _case("remove", {"x-header-remove": "goes"}, {}, "x-header-remove"),
            _case(
                "multi",
                {"x-header-set-2": "is-overwritten", "x-header-add-2": "is-kept", "x-header-remove-2": "goes"},
                {
                    "x-header-set-1": "header-set-1",
                    "x-header-set-2": "header-set-2",
                    "x-header-add-1": "header-add-1",
                    "x-header-add-2": "is-kept,header-add-2",
                },
                "x-header-remove-1",
                "x-header-remove-2",
            ),
        ),
    ),
)
