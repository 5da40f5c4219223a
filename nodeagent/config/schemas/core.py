"""Namespace, Node, Pod, Service, EndpointSlice: the fields we read; whatever else Kubernetes has is let pass."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Beyond, Fields, Items, Text, Truth, Whole, WholeOrText
from nodeagent.config.schemas.common import (
    ADDRESS,
    LABEL,
    LABEL_VALUE,
    PORT,
    QUALIFIED,
    SUBDOMAIN,
    address_fault,
    top_level,
)

_PROTOCOL = Text(enum=("TCP", "UDP", "SCTP", ""))
_NAME_OR_NOT = Text(pattern=f"({SUBDOMAIN.pattern})?", shape="empty or a DNS name in lower case", most=253)
_LABEL_OR_NOT = Text(pattern=f"({LABEL.pattern})?", shape="empty or a DNS label", most=63)
_APP_PROTOCOL = Text(pattern=QUALIFIED.pattern, shape=QUALIFIED.shape)


def _cluster_ip_fault(text: str) -> str:
    return "" if text in ("None", "") else address_fault(text)


_LINK_LOCAL_MULTICAST = ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16")


def _external_ip_fault(text: str) -> str:
    return address_fault(text) or _not_external(text)


def _not_external(text: str) -> str:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return f"{text!r} is IPv4 written as IPv6"
    special = address.is_loopback or address.is_unspecified or address.is_link_local
    if special or any(address in network for network in _LINK_LOCAL_MULTICAST):
        return f"{text!r} is loopback, unspecified or link-local: it leads to no other machine"
    return ""


def _ports_are_there(spec: dict[str, Any]) -> Iterator[FieldError]:
    if not spec.get("ports") and spec.get("clusterIP") != "None" and spec.get("type") != "ExternalName":
        yield FieldError(("ports",), "required value is missing: only a headless Service may do without")


def _addresses_agree(spec: dict[str, Any]) -> Iterator[FieldError]:
    first = (spec.get("clusterIPs") or [None])[0]
    if first is not None and first != spec.get("clusterIP"):
        yield FieldError(("clusterIPs", 0), f"{first!r} is not clusterIP, which has to be given and to be the first")


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
            fault = fault or _no_endpoint(address)
            if fault:
                yield FieldError(("endpoints", index, "addresses", number), fault)


def _no_endpoint(text: str) -> str:
    """Why no pod of another network namespace can have the address, or ""."""
    address = ipaddress.ip_address(text)
    if address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast:
        return f"{text!r} is loopback, unspecified, link-local or multicast: no endpoint has it"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return f"{text!r} is IPv4 written as IPv6"
    return ""


def _slice_ports_have_names_of_their_own(ports: list[dict[str, Any]]) -> Iterator[FieldError]:
    yield from _differ([port.get("name") or "" for port in ports])


def _names_differ(hints: list[dict[str, Any]]) -> Iterator[FieldError]:
    yield from _differ([hint.get("name") or "" for hint in hints])


def _differ(names: list[str]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield FieldError((index, "name"), f"duplicate value: {name!r}")
        seen.add(name)


def _port_can_be_dialled(port: dict[str, Any]) -> Iterator[FieldError]:
    """0 is let pass, and not used; the API server looks at neither."""
    if not 0 <= (port.get("port") or 0) <= 65535:
        yield FieldError(("port",), f"{port['port']} is no port")


NAMESPACE = top_level({}, open_ended=True, name=LABEL)
_CONDITION = Fields({"type": Text(), "status": Text()}, open_ended=True)
_NODE_ADDRESS = Fields({"type": Text(), "address": Text()}, open_ended=True)
NODE = top_level(
    {
        "spec": Fields({"podCIDR": Text(), "podCIDRs": Items(Text())}, open_ended=True),
        "status": Fields({"conditions": Items(_CONDITION), "addresses": Items(_NODE_ADDRESS)}, open_ended=True),
    },
    open_ended=True,
)

POD = top_level(
    {
        "spec": Fields(
            {"serviceAccountName": _NAME_OR_NOT, "nodeName": _NAME_OR_NOT, "hostNetwork": Truth()}, open_ended=True
        ),
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

TARGET_PORT = WholeOrText(
    Whole(1, 65535),
    Text(
        pattern=r"((?!.*--)(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?)?",
        shape="a port name: at most 15 lower-case letters, digits and single dashes, one letter at least",
    ),
)
_SERVICE_PORT = Fields(
    {
        "name": _LABEL_OR_NOT,
        "port": PORT,
        "targetPort": TARGET_PORT,
        "protocol": _PROTOCOL,
        "appProtocol": _APP_PROTOCOL,
        "nodePort": Whole(0, 65535),
    },
    ("port",),
)
_INGRESS = Fields({"ip": Text()}, open_ended=True)  # an API server takes no status with an object
SERVICE = top_level(
    {
        "spec": Fields(
            {
                "clusterIP": Text(check=_cluster_ip_fault),
                "clusterIPs": Items(Text(check=_cluster_ip_fault), most=2),
                "externalIPs": Items(Text(check=_external_ip_fault)),
                "internalTrafficPolicy": Text(enum=("Cluster", "Local")),
                "ports": Items(_SERVICE_PORT),
                "sessionAffinity": Text(enum=("ClientIP", "None", "")),
                "trafficDistribution": Text(enum=("PreferClose", "PreferSameZone", "PreferSameNode")),
                "type": Text(enum=("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "")),
            },
            open_ended=True,
            rules=(_addresses_agree, _ports_are_there, _ports_have_names_if_several, _port_numbers_differ),
        ),
        "status": Fields({"loadBalancer": Fields({"ingress": Items(_INGRESS)}, open_ended=True)}, open_ended=True),
    },
    ("spec",),
    open_ended=True,
    name=LABEL,
)

_ZONES = Items(Fields({"name": LABEL_VALUE}), most=8, rules=(_names_differ,))
_NODES = Items(Fields({"name": SUBDOMAIN}, ("name",)), most=8, rules=(_names_differ,))
_ENDPOINT = Fields(
    {
        "addresses": Items(Text(), least=1, most=100),
        "conditions": Fields({"ready": Truth(), "serving": Truth(), "terminating": Truth()}),
        "hints": Fields({"forZones": _ZONES, "forNodes": _NODES}),
        "nodeName": SUBDOMAIN,
        "zone": Text(),
    },
    ("addresses",),
    open_ended=True,
)
_SLICE_PORT = Fields(
    {
        "name": _LABEL_OR_NOT,
        "port": Whole(-(2**31), 2**31 - 1),
        "protocol": Text(enum=("TCP", "UDP", "SCTP")),
        "appProtocol": _APP_PROTOCOL,
    },
    rules=(Beyond(_port_can_be_dialled),),
)
ENDPOINT_SLICE = Fields(
    {
        **top_level({}).fields,
        "addressType": Text(enum=("IPv4", "IPv6", "FQDN")),
        "endpoints": Items(_ENDPOINT, most=1000),
        "ports": Items(_SLICE_PORT, most=20000, rules=(_slice_ports_have_names_of_their_own,)),
    },
    ("apiVersion", "kind", "metadata", "addressType"),
    open_ended=True,
    rules=(_addresses_fit_address_type,),
)
