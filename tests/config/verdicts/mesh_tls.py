"""MeshTLS and MeshNode objects, and the API server's verdict on each."""

from __future__ import annotations

from tests.config.verdicts.cases import GONE, Case, Object, bad, cases, good

MESH_TLS: Object = {
    "apiVersion": "mesh.nodeagent.dev/v1alpha1",
    "kind": "MeshTLS",
    "metadata": {"name": "cart", "namespace": "verdicts"},
    "spec": {"targetRefs": [{"kind": "Service", "name": "cart"}], "mode": "STRICT"},
}
MESH_NODE: Object = {
    "apiVersion": "mesh.nodeagent.dev/v1alpha1",
    "kind": "MeshNode",
    "metadata": {"name": "worker-1.example"},
}
_PERMISSIVE = {"port": 8080, "mode": "PERMISSIVE"}
_CA = {"group": "", "kind": "ConfigMap", "name": "ca"}

CASES: list[Case] = [
    *cases(
        MESH_TLS,
        [
            good({"spec.mode": "DISABLE"}),
            good({"spec.mode": "PERMISSIVE", "spec.ports": [_PERMISSIVE], "spec.trustDomain": "cluster.local"}),
            good({"spec.targetRefs": [{"kind": "Namespace", "name": "verdicts"}], "spec.caCertificateRefs": [_CA]}),
            good({"spec.targetRefs[0].sectionName": "http"}),
            good({"spec.ports": [{"port": port, "mode": "STRICT"} for port in range(1, 65)]}),
            good({"spec.mode": "DISABLE", "spec.ports": [_PERMISSIVE], "spec.trustDomain": "a_b.c"}),
            bad("spec.mode", GONE),
            bad("spec.mode", "strict"),
            bad("spec.mode", "UNSET"),
            bad("spec.targetRefs", GONE),
            bad("spec.targetRefs[0].kind", "HTTPRoute"),
            bad("spec.targetRefs[0]", {"kind": "Namespace", "name": "other"}, at="spec.targetRefs[0].name"),
            bad("spec.ports", [_PERMISSIVE], more={"spec.targetRefs[0].sectionName": "http"}),
            bad("spec.ports", []),
            bad("spec.ports", [_PERMISSIVE, _PERMISSIVE], at="spec.ports[1]"),
            bad("spec.ports", [{"port": 8080}], at="spec.ports[0].mode"),
            bad("spec.ports", [{"port": 0, "mode": "STRICT"}], at="spec.ports[0].port"),
            bad("spec.ports", [{"port": port, "mode": "STRICT"} for port in range(1, 66)]),
            bad("spec.trustDomain", "Cluster.local"),
            bad("spec.trustDomain", "spiffe://a"),
            bad("spec.trustDomain", "a" * 256),
            bad("spec.trustDomain", "a.b", more={"spec.mode": "DISABLE"}),
            bad("spec.caCertificateRefs", [_CA], more={"spec.mode": "DISABLE"}),
            bad("spec.caCertificateRefs", [{"kind": "Pod", "name": "a"}], at="spec.caCertificateRefs[0].kind"),
            bad("spec.caCertificateRefs", [{**_CA, "group": "x"}], at="spec.caCertificateRefs[0].group"),
            bad("spec.caCertificateRefs", [_CA] * 2, at="spec.caCertificateRefs[1]"),
        ],
    ),
    *cases(
        MESH_NODE,
        [
            good({"status": {"mode": "Enforcing", "kernel": "6.1.0", "pods": {"enrolled": 3}}}),
            good({"status": {"mode": "no such mode", "layoutVersion": -1}}),
            good({"metadata.labels": {"topology.kubernetes.io/zone": "a"}}),
            bad("spec", {}),
            bad("status.conditions", [{"typ": "Ready"}], at="status.conditions[0].typ"),
            bad("status.mode", {"a": 1}, at="status.mode.a"),
            bad("status.pods", [{"enrolled": 1}], at="status.pods[0].enrolled"),
            good({"status": {"pods": [[5]], "mode": {}}}),
            good({"status": 5}),
            bad("metadata.name", "Worker"),
        ],
    ),
]
