"""The worker's prepared look-up of original destinations reads what abi.py says the kernel wrote."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from nodeagent.kernel import abi, bpf_map
from nodeagent.proxy.originals import KernelOriginals


@pytest.fixture
def table() -> Iterator[bpf_map.Map]:
    sizes = ctypes.sizeof(abi.OrigKey), ctypes.sizeof(abi.Orig)
    opened = bpf_map.Map.from_fd(bpf_map.map_create(bpf_map.MapSpec("originals", bpf_map.MAP_TYPE_HASH, *sizes, 16, 0)))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("source", "family", "dialled"),
    [("127.0.0.1", 4, "198.18.0.9"), ("::1", 6, "fd00:198:18::9"), ("198.18.0.2", 4, "198.19.0.1")],
)
def test_a_redirected_connection_is_told_once_where_it_was_going(
    table: bpf_map.Map, source: str, family: int, dialled: str
) -> None:
    originals = KernelOriginals(table)
    value = abi.Orig(abi.make_addr(dialled), abi.wire_port(8080), 0, 1, 2)
    table.update(abi.orig_key(77, source, 40000, 15001, family), bytes(value))
    assert originals.take(78, source, 40000, 15001, family) is None
    assert originals.take(77, source, 40001, 15001, family) is None
    assert originals.take(77, source, 40000, 15001, family) == (dialled, 8080)
    assert originals.take(77, source, 40000, 15001, family) is None
