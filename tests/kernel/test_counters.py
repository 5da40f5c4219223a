"""What reading the counters of connections costs, and what it says."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest

from nodeagent.kernel import abi, bpf_map, layout, syscall
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.maps import Maps
from tests.kernel.unpinned import unpinned

WEB, CART, DENY, GONE = 1, 2, 3, 4


@pytest.fixture
def maps() -> Iterator[Maps]:
    with unpinned(names=65536) as made:
        put_name(made, 0, abi.NameKind.NEXT, "5")
        put_name(made, WEB, abi.NameKind.WORKLOAD, "shop/web/web-sa")
        put_name(made, CART, abi.NameKind.DEST, "shop/cart:80")
        put_name(made, DENY, abi.NameKind.POLICY, "shop/deny")
        yield made


def put_name(maps: Maps, number: int, kind: abi.NameKind, text: str) -> None:
    maps.map(layout.NAMES).update(number.to_bytes(4, "little"), bytes(abi.Name(kind, text.encode())))


def count(maps: Maps, workload: int, dest: int, outcome: Outcome, rule: int, **counters: int) -> None:
    """As two CPUs would, if there are two: what they counted is added up by the reader."""
    table, one = maps.map(layout.CONNECTIONS), bytes(abi.ConnStats(**counters))
    key = ctypes.create_string_buffer(bytes(abi.ConnKey(workload, dest, outcome, rule)), table.spec.key_size)
    values = ctypes.create_string_buffer(one * bpf_map.possible_cpus())
    attr = syscall.attr("<IIQQQ", table.fd, 0, ctypes.addressof(key), ctypes.addressof(values), 0)
    syscall.call(syscall.MAP_UPDATE, attr, table.name)


def test_counters_of_all_cpus_are_added_up_each_under_its_own_name(maps: Maps) -> None:
    count(maps, WEB, CART, Outcome.DIRECT, 0, opened=1, closed=2, failed=3, tx_bytes=4, rx_bytes=5)
    (row,) = maps.connections()
    cpus = bpf_map.possible_cpus()
    counted = [row.opened, row.closed, row.failed, row.tx_bytes, row.rx_bytes]
    assert counted == [number * cpus for number in (1, 2, 3, 4, 5)]


def test_ids_become_names_and_what_has_none_is_empty(maps: Maps) -> None:
    count(maps, WEB, CART, Outcome.DENIED, DENY, opened=1)
    count(maps, WEB, GONE, Outcome.DIRECT, 0, opened=1)
    rows = {(row.workload, row.destination, row.rule) for row in maps.connections()}
    assert rows == {("shop/web/web-sa", "shop/cart:80", "shop/deny"), ("shop/web/web-sa", "", "")}


def test_a_name_that_changes_is_the_new_one_at_the_next_reading(maps: Maps) -> None:
    """An instance that was uninstalled and made anew gives its ids again."""
    count(maps, WEB, CART, Outcome.DIRECT, 0, opened=1)
    assert [row.destination for row in maps.connections()] == ["shop/cart:80"]
    put_name(maps, CART, abi.NameKind.DEST, "shop/other:80")
    assert [row.destination for row in maps.connections()] == ["shop/other:80"]


def test_reading_costs_what_is_counted_and_not_what_the_cluster_has(
    maps: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    for outcome in (Outcome.DIRECT, Outcome.PROXIED, Outcome.DENIED):
        count(maps, WEB, CART, outcome, 0, opened=1)
    asked: list[str] = []
    call = syscall.call

    def counted(command: int, attr: ctypes.Array[ctypes.c_char], what: str = "") -> int:
        asked.append(what)
        return call(command, attr, what)

    monkeypatch.setattr(syscall, "call", counted)
    maps.connections()
    few = asked.copy()
    for number in range(10, 5000):
        put_name(maps, number, abi.NameKind.DEST, f"shop/unused-{number}:80")
    asked.clear()
    maps.connections()
    assert asked == few
    assert asked.count(layout.NAMES) == 2, "one per name, however many rows have it"
