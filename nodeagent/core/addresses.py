"""IP addresses as canonical text: IPv4 dotted, IPv6 compressed, IPv4-mapped IPv6 written as IPv4."""

from __future__ import annotations

import functools
import ipaddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def canonical(text: str) -> str:
    """Return the one spelling of an address.  Raises ValueError for anything else (a zone index, leading zeros)."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"{text!r} has a zone index")
        return str(address.ipv4_mapped or address)
    return str(address)


def family(text: str) -> int:
    """4 or 6 for a canonical address."""
    return 6 if ":" in text else 4


UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 - nothing is bound to it


def unspecified(text: str) -> str:
    """The UNSPECIFIED of a canonical address's family: what stands for the address of any node."""
    return UNSPECIFIED[":" in text]


@functools.lru_cache(maxsize=4096)
def parse_cidr(text: str) -> Network:
    """Parse `10.0.0.0/8`.  Raises ValueError for host bits, a missing prefix length or bad syntax."""
    if "/" not in text:
        raise ValueError(f"{text!r} has no prefix length")
    return ipaddress.ip_network(text, strict=True)


def in_cidr(address: str, cidr: str) -> bool:
    """True when the canonical `address` lies in `cidr`; "" and the other family lie in nothing."""
    if not address:
        return False
    parsed = ipaddress.ip_address(address)
    return parsed in parse_cidr(cidr)
