"""Namespace, Node, Pod, Service, EndpointSlice: the fields we read; whatever else Kubernetes has is let pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Fields, Items, Text, Truth, Whole, WholeOrText
from nodeagent.config.schemas.common import ADDRESS, LABEL, PORT, SUBDOMAIN, address_fault, top_level

_PROTOCOL = Text(enum=("TCP", "UDP", "SCTP"))
_PORT_NAME = Text(most=63)


def _cluster_ip_fault(text: str) -> str:
    return "" if text in ("None", "") else address_fault(text)


def _ports_have_names_if_several(spec: dict[str, Any]) -> Iterator[FieldError]:
    ports = spec.get("ports") or []
    if len(ports) < 2:
        return
    seen: set[str] = set()
    for index, port in enumerate(ports):
        name = port.get("name")
        if not name:
            yield FieldError(
                ("ports", index, "name"), "required value is missing: a Service with several ports names them"
            )
        elif name in seen:
            yield FieldError(("ports", index, "name"), f"duplicate value: {name!r}")
        seen.add(name or "")


def _port_numbers_differ(spec: dict[str, Any]) -> Iterator[FieldError]:
    seen: set[tuple[int, str]] = set()
    for index, port in enumerate(spec.get("ports") or []):
        key = (port["port"], port.get("protocol") or "TCP")
        if key in seen:
            yield FieldError(("ports", index), f"duplicate value: port {key[0]}, protocol {key[1]}")
        seen.add(key)


def _addresses_fit_address_type(value: dict[str, Any]) -> Iterator[FieldError]:
    kind = value["addressType"]
    if kind == "FQDN":
        return
    for index, endpoint in enumerate(value.get("endpoints") or []):
        for number, address in enumerate(endpoint["addresses"]):
            fault = address_fault(address)
            if not fault and (":" in address) != (kind == "IPv6"):
                fault = f"{address!r} is not an {kind} address, which addressType promises"
            if fault:
                yield FieldError(("endpoints", index, "addresses", number), fault)


NAMESPACE = top_level({}, open_ended=True)
_CONDITION = Fields({"type": Text(), "status": Text()}, open_ended=True)
NODE = top_level({"status": Fields({"conditions": Items(_CONDITION)}, open_ended=True)}, open_ended=True)

POD = top_level(
    {
        "spec": Fields({"serviceAccountName": SUBDOMAIN, "nodeName": Text(), "hostNetwork": Truth()}, open_ended=True),
        "status": Fields(
            {
                "phase": Text(enum=("Pending", "Running", "Succeeded", "Failed", "Unknown")),
                "podIP": ADDRESS,
                "podIPs": Items(Fields({"ip": ADDRESS}, ("ip",))),
            },
            open_ended=True,
        ),
    },
    open_ended=True,
)

TARGET_PORT = WholeOrText(Whole(1, 65535), Text(pattern=r"[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", shape="a port name"))
_SERVICE_PORT = Fields(
    {
        "name": LABEL,
        "port": PORT,
        "targetPort": TARGET_PORT,
        "protocol": _PROTOCOL,
        "appProtocol": Text(least=1),
        "nodePort": Whole(0, 65535),
    },
    ("port",),
)
SERVICE = top_level(
    {
        "spec": Fields(
            {
                "clusterIP": Text(check=_cluster_ip_fault),
                "clusterIPs": Items(Text(check=_cluster_ip_fault), most=2),
                "ports": Items(_SERVICE_PORT),
                "trafficDistribution": Text(enum=("PreferClose", "PreferSameZone", "PreferSameNode")),
                "type": Text(enum=("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")),
            },
            open_ended=True,
            rules=(_ports_have_names_if_several, _port_numbers_differ),
        )
    },
    ("spec",),
    open_ended=True,
)

_HINTS = Items(Fields({"name": Text(least=1, most=253)}, ("name",)), most=8)
_ENDPOINT = Fields(
    {
        "addresses": Items(Text(), least=1, most=100),
        "conditions": Fields({"ready": Truth(), "serving": Truth(), "terminating": Truth()}),
        "hints": Fields({"forZones": _HINTS, "forNodes": _HINTS}, open_ended=True),
        "nodeName": Text(most=253),
        "zone": Text(most=253),
    },
    ("addresses",),
    open_ended=True,
)
_SLICE_PORT = Fields({"name": _PORT_NAME, "port": PORT, "protocol": _PROTOCOL, "appProtocol": Text()})
ENDPOINT_SLICE = Fields(
    {
        **top_level({}).fields,
        "addressType": Text(enum=("IPv4", "IPv6", "FQDN")),
        "endpoints": Items(_ENDPOINT, most=1000),
        "ports": Items(_SLICE_PORT, most=100),
    },
    ("apiVersion", "kind", "metadata", "addressType"),
    open_ended=True,
    rules=(_addresses_fit_address_type,),
)
