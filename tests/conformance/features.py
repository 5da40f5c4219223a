"""Features of Gateway API that mesh tests exercise, by their upstream names.

Source: pkg/features/mesh.go, pkg/features/httproute.go and conformance/utils/suite/profiles.go of Gateway API v1.6:
the profile MESH-HTTP has two core features and nine extended ones.
"""

from __future__ import annotations

CORE = ("Mesh", "HTTPRoute")
EXTENDED = (
    "MeshClusterIPMatching",
    "MeshConsumerRoute",
    "MeshHTTPRouteRewritePath",
    "MeshHTTPRouteSchemeRedirect",
    "MeshHTTPRouteRedirectPort",
    "MeshHTTPRouteRedirectPath",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteQueryParamMatching",
    "MeshHTTPRouteNamedRouteRule",
)
# Extended features of HTTPRoute that some mesh tests need as well; they are not part of the profile.
BESIDE = (
    "HTTPRouteParentRefPort",
    "HTTPRouteResponseHeaderModification",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
)
GRPC = "GRPCRoute"  # core of the profile MESH-GRPC


def level(feature: str) -> str:
    """What a profile says of it."""
    named = {**dict.fromkeys(CORE, "core"), **dict.fromkeys(EXTENDED, "extended"), GRPC: "core of MESH-GRPC"}
    return named.get(feature, "beside the profile")
