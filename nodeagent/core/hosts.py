"""Host header and authority syntax (RFC 9110 7.2, RFC 3986 3.2.2), and host patterns of policies."""

from __future__ import annotations

import ipaddress
import re

_NAME = re.compile(r"[A-Za-z0-9._~-]*")
_PORT = re.compile(r"[0-9]{0,5}")


class HostError(ValueError):
    """The Host value is not a host with an optional port; `reason` is one short phrase."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_host(value: str) -> str:
    """Return the host of a Host header or authority: lower case, without port and root dot; "" stays ""."""
    host, port = _split_port(value)
    if not _PORT.fullmatch(port) or (port and int(port) > 65535):
        raise HostError("bad port in host")
    if host.startswith("["):
        return _ipv6_literal(host)
    if not _NAME.fullmatch(host):
        raise HostError("bad character in host")
    host = host.lower().removesuffix(".")
    if host.startswith(".") or host.endswith(".") or ".." in host:
        raise HostError("empty label in host")  # some servers drop the dots, and then see another name
    return host


def host_matches(pattern: str, host: str) -> bool:
    """`shop` matches itself; `*.shop` matches every name below `shop`, at any depth, not `shop`."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return pattern in ("*", host)


def _split_port(value: str) -> tuple[str, str]:
    if value.startswith("["):
        host, bracket, rest = value.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise HostError("bad IPv6 literal in host")
        return host + bracket, rest[1:]
    host, _, port = value.partition(":")
    return host, port


def _ipv6_literal(host: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    except ipaddress.AddressValueError as error:
        raise HostError("bad IPv6 literal in host") from error
