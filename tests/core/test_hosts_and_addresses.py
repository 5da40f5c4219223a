"""Host syntax, host patterns, canonical addresses, CIDR membership."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.addresses import canonical, family, in_cidr, parse_cidr
from nodeagent.core.hosts import HostError, host_matches, parse_host


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("shop", "shop"),
        ("Shop.Example:8080", "shop.example"),
        ("shop.:80", "shop"),
        ("shop:", "shop"),
        ("", ""),
        ("10.0.0.1:80", "10.0.0.1"),
        ("[FD00::1]:80", "[fd00::1]"),
        ("[fd00:0:0::1]", "[fd00::1]"),
        ("a_b", "a_b"),
    ],
)
def test_a_host_is_lower_case_without_port_and_root_dot(value: str, host: str) -> None:
    assert parse_host(value) == host


@pytest.mark.parametrize(
    "value",
    ["a b", "a/b", "user@shop", "shop:80:80", "shop:x", "shop:65536", "[fd00::1", "[x]", "[::1]x", "a%62", "a,b", "é"],
)
def test_what_is_no_host_is_refused(value: str) -> None:
    with pytest.raises(HostError):
        parse_host(value)


def test_a_pattern_with_a_star_matches_names_below_it_only() -> None:
    assert host_matches("*.shop", "a.shop")
    assert host_matches("*.shop", "a.b.shop")
    assert not host_matches("*.shop", "shop")
    assert not host_matches("*.shop", ".shop")
    assert not host_matches("*.shop", "ashop")
    assert host_matches("shop", "shop")
    assert not host_matches("shop", "a.shop")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("FD00:0::1", "fd00::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:0a00:0001", "10.0.0.1"),
    ],
)
def test_an_address_has_one_spelling(text: str, wanted: str) -> None:
    assert canonical(text) == wanted
    assert family(wanted) == (6 if ":" in wanted else 4)


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.01", "fe80::1%eth0", "shop", "10.0.0.1/8"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical(text)


@given(st.ip_addresses(), st.ip_addresses(v=4), st.integers(0, 32))
def test_cidr_membership_is_a_comparison_of_leading_bits(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, base: ipaddress.IPv4Address, length: int
) -> None:
    network = ipaddress.ip_network((base, length), strict=False)
    text = canonical(str(address))
    wanted = family(text) == 4 and (int(ipaddress.ip_address(text)) ^ int(base)) >> (32 - length) == 0
    assert in_cidr(text, str(network)) is wanted


def test_an_unknown_address_is_in_no_cidr() -> None:
    assert not in_cidr("", "0.0.0.0/0")


def test_a_cidr_needs_a_prefix_length() -> None:
    with pytest.raises(ValueError, match="prefix length"):
        parse_cidr("10.0.0.0")
