"""Which rule of a route a request meets, and which backend it gets."""

from __future__ import annotations

from tests.conformance.cases import Case
from tests.conformance.routes import backend, match, rule
from tests.conformance.suite.base import V1_ALT, V2_ALT, Test, echo, of_http

MATCHING_TESTS = (
    Test(
        *of_http("MeshHTTPRouteSimpleSameNamespace", "httproute-simple-same-namespace"),
        echo(rule(to=V1_ALT)),
        (Case(backend="echo-v1"),),
    ),
    Test(
        *of_http("MeshHTTPRouteMatching", "httproute-matching"),
        echo(
            rule(match(prefix="/"), match(headers={"version": "one"}), to=V1_ALT),
            rule(match(prefix="/v2"), match(headers={"version": "two"}), to=V2_ALT),
        ),
        (
            Case("/", backend="echo-v1"),
            Case("/example", backend="echo-v1"),
            Case("/", sends={"Version": "one"}, backend="echo-v1"),
            Case("/v2", backend="echo-v2"),
            Case("/v2/example", backend="echo-v2"),
            Case("/", sends={"Version": "two"}, backend="echo-v2"),
            Case("/v2/", backend="echo-v2"),
            Case("/v2example", backend="echo-v1"),
            Case("/foo/v2/example", backend="echo-v1"),
        ),
    ),
    Test(
        *of_http(
            "MeshHTTPRouteQueryParamMatching", "httproute-query-param-matching", "MeshHTTPRouteQueryParamMatching"
        ),
        echo(
            rule(match(query={"animal": "whale"}), to=V1_ALT),
            rule(match(query={"animal": "dolphin"}), to=V2_ALT),
            rule(match(prefix="/path1", query={"animal": "whale"}), to=V1_ALT),
            rule(match(headers={"version": "one"}, query={"animal": "whale"}), to=V2_ALT),
            rule(
                match(prefix="/path3", query={"animal": "shark"}),
                match(prefix="/path4", headers={"version": "three"}, query={"animal": "kraken"}),
                to=V1_ALT,
            ),
            rule(match(prefix="/path5"), to=V1_ALT),
            rule(match(query={"animal": "hydra"}), to=V2_ALT),
        ),
        (
            Case("/?animal=whale", backend="echo-v1"),
            Case("/?animal=dolphin", backend="echo-v2"),
            Case("/?animal=whale&otherparam=irrelevant", backend="echo-v1"),
            Case("/?animal=dolphin&color=yellow", backend="echo-v2"),
            Case("/?color=blue", status=404),
            Case("/?animal=dog", status=404),
            Case("/?animal=whaledolphin", status=404),
            Case("/", status=404),
            Case("/path1?animal=whale", backend="echo-v1"),
            Case("/?animal=whale", sends={"version": "one"}, backend="echo-v2"),
            Case("/path3?animal=shark", backend="echo-v1"),
            Case("/path4?animal=kraken", sends={"version": "three"}, backend="echo-v1"),
            Case("/?animal=shark", status=404),
            Case("/path4?animal=kraken", status=404),
            Case("/path5?animal=hydra", backend="echo-v1"),
        ),
    ),
    Test(
        *of_http("MeshHTTPRouteNamedRule", "httproute-named-rule", "MeshHTTPRouteNamedRouteRule"),
        echo(rule(match(prefix="/named"), to=V1_ALT, name="named-rule"), rule(match(prefix="/unnamed"), to=V2_ALT)),
        (Case("/named", backend="echo-v1"), Case("/unnamed", backend="echo-v2")),
    ),
    Test(
        *of_http("MeshHTTPRouteWeight", "httproute-weight"),
        echo(rule(to=(backend("echo-v1", 8080, weight=70), backend("echo-v2", 8080, weight=30)))),
        (Case(),),
        {"echo-v1": 0.7, "echo-v2": 0.3},
    ),
)
