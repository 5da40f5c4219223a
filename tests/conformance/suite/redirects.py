"""Where a client is sent to."""

from __future__ import annotations

from collections.abc import Mapping

from tests.conformance.cases import Case, Redirect
from tests.conformance.routes import full, in_place_of_prefix, match, redirect, rule
from tests.conformance.suite.base import Test, echo, of_http
from tests.testbed.manifests import Document


def _redirects(filters: Mapping[str, Document]) -> tuple[Document, ...]:
    """A rule for each path prefix, that redirects."""
    return echo(*(rule(match(prefix=path), what) for path, what in filters.items()))


def _led(asked: str, status: int = 302, **where: object) -> Case:
    """A request for `asked`, and where its redirect leads (fields of Redirect)."""
    return Case(asked, status=status, redirect=Redirect(**where))  # type: ignore[arg-type]  # Redirect's own fields


ORG = "example.org"
PREFIXED, WHOLE = in_place_of_prefix("/replacement-prefix"), full("/replacement-full")

REDIRECT_TESTS = (
    Test(
        *of_http("MeshHTTPRouteRedirectHostAndStatus", "httproute-redirect-host-and-status"),
        _redirects({"/hostname-redirect": redirect(hostname=ORG), "/host-and-status": redirect(301, hostname=ORG)}),
        (_led("/hostname-redirect", host=ORG), _led("/host-and-status", 301, host=ORG)),
    ),
    Test(
        *of_http("MeshHTTPRouteRedirectPath", "httproute-redirect-path", "MeshHTTPRouteRedirectPath"),
        _redirects(
            {
                "/original-prefix": redirect(path=PREFIXED),
                "/full": redirect(path=full("/full-path-replacement")),
                "/path-and-host": redirect(path=PREFIXED, hostname=ORG),
                "/path-and-status": redirect(301, PREFIXED),
                "/full-path-and-host": redirect(path=WHOLE, hostname=ORG),
                "/full-path-and-status": redirect(301, WHOLE),
            }
        ),
        (
            _led("/original-prefix/lemon", path="/replacement-prefix/lemon"),
            _led("/full/path/original", path="/full-path-replacement"),
            _led("/path-and-host", host=ORG, path="/replacement-prefix"),
            _led("/path-and-status", 301, path="/replacement-prefix"),
            _led("/full-path-and-host", host=ORG, path="/replacement-full"),
            _led("/full-path-and-status", 301, path="/replacement-full"),
        ),
    ),
    Test(
        *of_http("MeshHTTPRouteRedirectPort", "httproute-redirect-port", "MeshHTTPRouteRedirectPort"),
        _redirects(
            {
                "/port": redirect(port=8083),
                "/port-and-host": redirect(port=8083, hostname=ORG),
                "/port-and-status": redirect(301, port=8083),
                "/port-and-host-and-status": redirect(302, port=8083, hostname=ORG),
            }
        ),
        (
            _led("/port", port=8083),
            _led("/port-and-host", host=ORG, port=8083),
            _led("/port-and-status", 301, port=8083),
            _led("/port-and-host-and-status", host=ORG, port=8083),
        ),
    ),
    Test(
        *of_http("MeshHTTPRouteSchemeRedirect", "httproute-redirect-scheme", "MeshHTTPRouteSchemeRedirect"),
        _redirects(
            {
                "/scheme": redirect(scheme="https"),
                "/scheme-and-host": redirect(scheme="https", hostname=ORG),
                "/scheme-and-status": redirect(301, scheme="https"),
                "/scheme-and-host-and-status": redirect(302, scheme="https", hostname=ORG),
            }
        ),
        (
            _led("/scheme", scheme="https"),
            _led("/scheme-and-host", scheme="https", host=ORG),
            _led("/scheme-and-status", 301, scheme="https"),
            _led("/scheme-and-host-and-status", scheme="https", host=ORG),
        ),
    ),
    *(
        Test(
            *of_http(
                f"MeshHTTPRoute{status}Redirect",
                f"httproute-{status}-redirect",
                f"HTTPRoute{status}RedirectStatusCode",
            ),
            _redirects({path: redirect(status)}),
            (_led(path, status, path=path),),
        )
        for status, path in ((303, "/redirect"), (307, "/temporary"), (308, "/permanent"))
    ),
)
