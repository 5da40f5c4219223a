"""The kinds that are followed, and where the API server has them."""

from __future__ import annotations

from dataclasses import dataclass

from nodeagent.config.schema import Schema
from nodeagent.config.schemas import CLUSTER_SCOPED, SCHEMAS
from nodeagent.core.api_group import API_VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    """`custom`: defined by a CRD, which may not be installed, and may be older or newer than what we know."""

    name: str
    version: str  # apiVersion
    plural: str
    custom: bool = False

    @property
    def path(self) -> str:
        """Of the collection, in all namespaces."""
        return f"/{'apis' if '/' in self.version else 'api'}/{self.version}/{self.plural}"

    @property
    def resource(self) -> str:
        """As RBAC and `kubectl get` name it: "httproutes.gateway.networking.k8s.io"."""
        group = self.version.rpartition("/")[0]
        return f"{self.plural}.{group}" if group else self.plural

    @property
    def schema(self) -> Schema:
        return SCHEMAS[self.version, self.name]

    @property
    def namespaced(self) -> bool:
        return self.name not in CLUSTER_SCOPED


# Policies come first: they are few, and everything else is judged by them.
KINDS = (
    Kind("AuthorizationPolicy", API_VERSION, "authorizationpolicies", custom=True),
    Kind("TrafficPolicy", API_VERSION, "trafficpolicies", custom=True),
    Kind("RateLimitPolicy", API_VERSION, "ratelimitpolicies", custom=True),
    Kind("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes", custom=True),
    Kind("Namespace", "v1", "namespaces"),
    Kind("Node", "v1", "nodes"),
    Kind("Service", "v1", "services"),
    Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices"),
    Kind("Pod", "v1", "pods"),
)
BY_NAME = {kind.name: kind for kind in KINDS}
