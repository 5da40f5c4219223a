"""Services, EndpointSlices, Pods, Namespaces: the API server's verdict in the fields that we read."""

from __future__ import annotations

from typing import Any

from tests.config.verdicts.cases import GONE, Case, Object, bad, cases, good

SERVICE: Object = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "cart", "namespace": "verdicts"},
    "spec": {"selector": {"app": "cart"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
}
SLICE: Object = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "cart-1", "namespace": "verdicts", "labels": {"kubernetes.io/service-name": "cart"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
}
POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "cart-1", "namespace": "verdicts", "labels": {"mesh.nodeagent.dev/dataplane": "enabled"}},
    "spec": {"containers": [{"name": "app", "image": "localhost/none:1"}]},
}
SPACE: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "verdicts-2"}}
_PORT = "spec.ports[0]"
_END = "endpoints[0]"


def _port(**fields: Any) -> Object:
    return {"port": 81, **fields}


CASES: list[Case] = [
    *cases(
        SERVICE,
        [
            good({"spec.clusterIP": "None", "spec.clusterIPs": ["None"]}),
            good({"spec.clusterIP": ""}),
            good({"spec.clusterIP": "None", "spec.ports": GONE}),
            good({"spec.type": "ExternalName", "spec.externalName": "a.example", "spec.ports": GONE}),
            good({"spec.type": "NodePort"}),
            good({"metadata.name": "x" * 63}),
            bad("metadata.name", "x" * 64),
            bad("metadata.name", "a.b"),
            bad("metadata.name", "A"),
            bad("spec.type", "Headless"),
            *(bad("spec.clusterIP", one) for one in ("none", "10.0.0", "010.96.0.77", "fe80::1%1", "10.96.0.77/32", 5)),
            bad("spec.clusterIPs", ["None", "None", "None"], more={"spec.clusterIP": "None"}),
            bad("spec.clusterIPs", ["nonsense"]),
            bad("spec.clusterIPs", "None"),
            bad("spec.clusterIPs", ["None"]),
            bad("spec.clusterIPs", ["10.96.0.77"], more={"spec.clusterIP": "None"}),
            *(good({"spec.trafficDistribution": one}) for one in ("PreferClose", "PreferSameZone", "PreferSameNode")),
            bad("spec.trafficDistribution", "Close"),
            *(good({"spec.internalTrafficPolicy": one}) for one in ("Cluster", "Local", None)),
            *(bad("spec.internalTrafficPolicy", one) for one in ("local", "", 1)),
            *(good({"spec.sessionAffinity": one}) for one in ("ClientIP", "None", "", None)),
            bad("spec.sessionAffinity", "clientIP"),
            good({"spec.externalIPs": ["203.0.113.7", "2001:db8::7", "224.0.1.1"]}),
            *(
                bad("spec.externalIPs", [one], at="spec.externalIPs[0]")
                for one in ("203.0.113", "example.com", "010.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1",
                            "::1", "fe80::1", "ff02::1", "", 5)
            ),
            bad("spec.externalIPs", "203.0.113.7"),
            bad("spec.ports", GONE),
            bad("spec.ports", []),
            bad("spec", GONE, at="spec"),
            good({"spec.ports[1]": _port(name="b")}),
            good({"spec.ports[1]": {"name": "b", "port": 80, "protocol": "UDP"}}),
            good({f"{_PORT}.name": GONE}),
            bad("spec.ports[1]", _port(), at="spec.ports[1].name"),
            bad("spec.ports[1]", _port(name="http"), at="spec.ports[1].name"),
            bad("spec.ports[1]", {"name": "b", "port": 80}),
            bad(f"{_PORT}.name", "Http"),
            bad(f"{_PORT}.name", "a_b"),
            bad(f"{_PORT}.name", "x" * 64),
            bad(f"{_PORT}.port", 0),
            bad(f"{_PORT}.port", 65536),
            bad(f"{_PORT}.port", "80"),
            bad(f"{_PORT}.port", GONE),
            good({f"{_PORT}.protocol": "SCTP"}),
            bad(f"{_PORT}.protocol", "tcp"),
            good({f"{_PORT}.protocol": ""}),
            good({f"{_PORT}.name": ""}),
            good({"spec.type": "", "spec.trafficDistribution": None}),
            bad("spec.trafficDistribution", ""),
            bad(f"{_PORT}.protocols", "TCP"),
            *(good({f"{_PORT}.targetPort": one}) for one in ("a", "8080x", "x" * 15, 65535, None, "")),
            *(bad(f"{_PORT}.targetPort", one) for one in ("x" * 16, "a--b", "80", "-a", "A", 65536, True)),
            good({f"{_PORT}.appProtocol": "kubernetes.io/h2c"}),
            good({f"{_PORT}.appProtocol": "My_proto.1"}),
            bad(f"{_PORT}.appProtocol", "a b"),
            bad(f"{_PORT}.appProtocol", "a/b/c"),
            bad(f"{_PORT}.appProtocol", ""),
        ],
    ),
    *cases(
        SLICE,
        [
            good({"addressType": "IPv6", f"{_END}.addresses": ["2001:db8::1"]}),
            good({"endpoints": []}),
            good({"endpoints": GONE}),
            good({"ports": GONE}),
            good({"metadata.labels": GONE}),
            bad("addressType", GONE),
            bad("addressType", "IP"),
            *(
                bad(f"{_END}.addresses", [one], at=f"{_END}.addresses[0]")
                for one in ("10.0.0", "cart", "2001:db8::1", "10.0.0.1:80", "", "010.0.0.1",
                            "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", 5)
            ),
            *(
                bad(f"{_END}.addresses", [one], more={"addressType": "IPv6"}, at=f"{_END}.addresses[0]")
                for one in ("10.0.0.1", "::1", "::", "fe80::1", "ff02::1", "2001:db8::1%1", "::ffff:10.0.0.1")
            ),
            bad(f"{_END}.addresses", []),
            bad(f"{_END}.addresses", GONE),
            good({f"{_END}.addresses": [f"10.0.0.{number}" for number in range(1, 101)]}),
            bad(f"{_END}.addresses", [f"10.0.0.{number}" for number in range(1, 102)]),
            good({"endpoints": [{"addresses": [f"10.0.{n // 250}.{n % 250 + 1}"]} for n in range(1000)]}),
            bad("endpoints", [{"addresses": [f"10.0.{n // 250}.{n % 250 + 1}"]} for n in range(1001)]),
            good({f"{_END}.conditions": {"ready": None, "serving": False, "terminating": True}}),
            good({f"{_END}.conditions": GONE}),
            bad(f"{_END}.conditions.ready", "yes"),
            bad(f"{_END}.conditions.redy", True),
            good({f"{_END}.nodeName": "worker-1.example", f"{_END}.zone": "eu-1a"}),
            bad(f"{_END}.nodeName", "Worker"),
            bad(f"{_END}.nodeName", "x" * 254),
            good({f"{_END}.hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "b"}]}}),
            good({f"{_END}.hints.forZones": [{"name": f"z{number}"} for number in range(8)]}),
            bad(f"{_END}.hints.forZones", [{"name": f"z{number}"} for number in range(9)]),
            good({f"{_END}.hints.forZones": [{"name": ""}]}),
            good({f"{_END}.hints.forZones": [{}]}),
            bad(f"{_END}.hints.forZones", [{"name": "x" * 64}], at=f"{_END}.hints.forZones[0].name"),
            bad(f"{_END}.hints.forNodes", [{"name": "x" * 254}], at=f"{_END}.hints.forNodes[0].name"),
            bad(f"{_END}.hints.forNodes", [{"name": "A"}], at=f"{_END}.hints.forNodes[0].name"),
            bad(f"{_END}.hints.forNodes", [{"name": ""}], at=f"{_END}.hints.forNodes[0].name"),
            bad(f"{_END}.hints.forNodes", [{"name": "a"}, {"name": "a"}], at=f"{_END}.hints.forNodes[1].name"),
            bad(f"{_END}.hints.forRegions", []),
            bad(f"{_END}.nodeName", ""),
            good({f"{_END}.zone": ""}),
            good({f"{_END}.zone": "a b" * 100}),
            good({f"{_END}.addresses": ["10.0.0.1", "10.0.0.1"]}),
            bad(f"{_END}.hints.forZones", [{"name": "a b"}], at=f"{_END}.hints.forZones[0].name"),
            bad(f"{_END}.hints.forZones", [{"name": "a"}, {"name": "a"}], at=f"{_END}.hints.forZones[1].name"),
            bad(f"{_END}.hints.forNodes", [{"name": f"n{number}"} for number in range(9)]),
            good({"ports": [{}]}),
            good({"ports[0].name": "", "ports[0].appProtocol": "grpc"}),
            good({"ports": [{"name": f"p{number}", "port": number} for number in range(1, 102)]}),
            bad("ports[1]", {"name": "http", "port": 81}, at="ports[1].name"),
            bad("ports[0].name", "Http"),
            bad("ports[0].protocol", "tcp"),
            bad("ports[0].port", "http"),
            good({"ports[0].port": 65536}),  # nobody looks
            good({"ports[0].port": 0}),
            bad("ports[0].appProtocol", "a b"),
            bad("ports[0].appProtocol", ""),
            bad("ports[0].name", "x" * 64),
            bad("ports[0].name", None, at="ports[0].protocol", more={"ports[0].protocol": ""}),
        ],
    ),
    *cases(
        POD,
        [
            good({"spec.serviceAccountName": "default", "spec.nodeName": "worker-1", "spec.hostNetwork": True}),
            good({"spec.serviceAccountName": "", "spec.nodeName": ""}),
            bad("spec.serviceAccountName", 5),
            bad("spec.hostNetwork", "true"),
            bad("spec.nodeName", "Worker_1"),
            good({"metadata.name": "a.b"}),
            bad("metadata.name", "a_b"),
            good({"metadata.labels": {"mesh.nodeagent.dev/dataplane": "whatever"}}),
            bad("metadata.labels", {"mesh.nodeagent.dev/dataplane": True}),
            bad("metadata.labels", {"mesh.nodeagent.dev/dataplane": "en abled"}),
            bad("metadata.annotations", {"mesh.nodeagent.dev/netns": 5}),
        ],
    ),
    *cases(
        SPACE,
        [
            good({"metadata.labels": {"mesh.nodeagent.dev/dataplane": "enabled"}}),
            good({"metadata.annotations": {"mesh.nodeagent.dev/fail-mode": "closed"}}),
            good({"spec": {}, "status": {}}),
            bad("metadata.name", "a.b"),
            bad("metadata.name", "x" * 64),
            bad("metadata.name", "A"),
            good({"metadata.labels": {"mesh.nodeagent.dev/dataplane": None}}),
            bad("metadata.annotations", {"mesh.nodeagent.dev/fail-mode": 1}),
        ],
    ),
]
