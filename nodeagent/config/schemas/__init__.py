"""The schemas of the kinds we read, by (apiVersion, kind), and which kinds we know but skip."""

from __future__ import annotations

from nodeagent.config.schema import Schema
from nodeagent.config.schemas import authorization, core, gateway, mesh_node, mesh_tls, rate_limits, traffic
from nodeagent.core.api_group import API_VERSION, GROUP

SCHEMAS: dict[tuple[str, str], Schema] = {
    ("v1", "Namespace"): core.NAMESPACE,
    ("v1", "Node"): core.NODE,
    ("v1", "Pod"): core.POD,
    ("v1", "Service"): core.SERVICE,
    ("discovery.k8s.io/v1", "EndpointSlice"): core.ENDPOINT_SLICE,
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): gateway.HTTP_ROUTE,
    (API_VERSION, "AuthorizationPolicy"): authorization.AUTHORIZATION_POLICY,
    (API_VERSION, "TrafficPolicy"): traffic.TRAFFIC_POLICY,
    (API_VERSION, "RateLimitPolicy"): rate_limits.RATE_LIMIT_POLICY,
}
NOT_READ: dict[tuple[str, str], Schema] = {
    (API_VERSION, "MeshTLS"): mesh_tls.MESH_TLS,
    (API_VERSION, "MeshNode"): mesh_node.MESH_NODE,
}
"""Checked, and without effect: MeshTLS is for a later release, MeshNode is written by the agent."""
CLUSTER_SCOPED = frozenset({"Namespace", "Node", "MeshNode"})
# Kinds of ours and of Gateway API that a later release will read: writing one now has no effect, which must be said.
OUR_GROUPS = (f"{GROUP}/", "gateway.networking.k8s.io/")
