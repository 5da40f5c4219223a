"""What a backend sees of a request that was changed."""

from __future__ import annotations

from collections.abc import Iterable

from tests.conformance.cases import Case
from tests.conformance.routes import backend, full, in_place_of_prefix, match, request_headers, rewrite, rule
from tests.conformance.suite.base import V1, V1_ALT, Test, echo, of_http
from tests.conformance.suite.headers import HEADER_CASES, HEADER_CHANGES
from tests.testbed.manifests import Document


def _header_rules(*, of_backend: bool) -> Iterable[Document]:
    for path, changes in HEADER_CHANGES.items():
        change = request_headers(**changes)
        if of_backend:
            yield rule(match(prefix=path), to=backend("echo-v1", 8080, change))
        else:
            yield rule(match(prefix=path), change, to=V1_ALT)


REWRITE_HEADERS = request_headers(
    set={"X-Header-Set": "set-overwrites-values"},
    add={"X-Header-Add": "header-val-1", "X-Header-Add-Append": "header-val-2"},
    remove=["X-Header-Remove"],
)
SENT_TO_REWRITE = {"X-Header-Remove": "remove-val", "X-Header-Add-Append": "append-val-1", "X-Header-Set": "set-val"}
SEEN_AFTER_REWRITE = {
    "X-Header-Add": "header-val-1",
    "X-Header-Add-Append": "append-val-1,header-val-2",
    "X-Header-Set": "set-overwrites-values",
}


def _rewritten(path: str, seen: str, *, with_headers: bool = False) -> Case:
    if not with_headers:
        return Case(path, backend="echo-v1", seen_path=seen)
    sends, after, gone = SENT_TO_REWRITE, SEEN_AFTER_REWRITE, ("X-Header-Remove",)
    return Case(path, sends=sends, backend="echo-v1", seen_path=seen, seen=after, unseen=gone)


FILTER_TESTS = (
    Test(
        *of_http("MeshHTTPRouteRequestHeaderModifier", "httproute-request-header-modifier"),
        echo(*_header_rules(of_backend=False)),
        HEADER_CASES,
    ),
    Test(
        *of_http(
            "MeshHTTPRouteBackendRequestHeaderModifier",
            "httproute-request-header-modifier",
            "MeshHTTPRouteBackendRequestHeaderModification",
        ),
        echo(*_header_rules(of_backend=True)),
        HEADER_CASES,
    ),
    Test(
        *of_http("MeshHTTPRouteRewritePath", "httproute-rewrite-path", "MeshHTTPRouteRewritePath"),
        echo(
            rule(match(prefix="/prefix/one"), rewrite(in_place_of_prefix("/one")), to=V1),
            rule(match(prefix="/strip-prefix"), rewrite(in_place_of_prefix("/")), to=V1),
            rule(match(prefix="/full/one"), rewrite(full("/one")), to=V1),
            rule(match(prefix="/full/rewrite-path-and-modify-headers"), rewrite(full("/test")), REWRITE_HEADERS, to=V1),
            rule(
                match(prefix="/prefix/rewrite-path-and-modify-headers"),
                rewrite(in_place_of_prefix("/prefix")),
                REWRITE_HEADERS,
                to=V1,
            ),
        ),
        (
            _rewritten("/prefix/one/two", "/one/two"),
            _rewritten("/strip-prefix/three", "/three"),
            _rewritten("/strip-prefix", "/"),
            _rewritten("/full/one/two", "/one"),
            _rewritten("/full/rewrite-path-and-modify-headers/test", "/test", with_headers=True),
            _rewritten("/prefix/rewrite-path-and-modify-headers/one", "/prefix/one", with_headers=True),
        ),
    ),
)
