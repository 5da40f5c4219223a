"""Entries of maps in words, from bytes as the kernel hands them out."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from nodeagent.cli.map_rows import SHAPES, rows_of
from nodeagent.kernel import abi, layout
from nodeagent.kernel.abi import Outcome, make_addr, wire_port
from nodeagent.kernel.layout import Layout
from nodeagent.kernel.maps import ConnectionRow, Maps, SeriesRow

Entries = dict[bytes, bytes]


class Table:
    def __init__(self, entries: Entries) -> None:
        self._entries = entries

    def items(self) -> Entries:
        return self._entries


class MadeUpMaps(Maps):
    """`entries` in whichever map is asked for."""

    def __init__(self, entries: Entries) -> None:
        super().__init__(Layout())
        self._entries = entries

    def map(self, name: str) -> Any:
        return Table(self._entries)

    def connections(self) -> list[ConnectionRow]:
        later = ConnectionRow("shop/web/web", "shop/db:5432", Outcome.DIRECT, "", 3, 2, 1, 10, 20)
        return [later, ConnectionRow("batch/job/job", "shop/db:5432", Outcome.DENIED, "shop/no-batch", 1, 0, 0, 0, 0)]

    def request_series(self, worker: int) -> list[SeriesRow]:
        return [SeriesRow(worker, {"route": "shop/cart", "code": "200"}, 5, 6, 7, 8, ())]


def number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "little")


CASES: list[tuple[str, bytes, bytes, dict[str, Any]]] = [
    (
        layout.DESTINATIONS,
        bytes(abi.DestKey(make_addr("198.19.0.1"), wire_port(80))),
        bytes(abi.Dest(4, abi.DEST_PROXY, 5, 2, 6, abi.ALLOW)),
        {"addr": "198.19.0.1", "port": 80, "dest": 4, "flags": 1, "ep_set": 5, "ep_count": 2, "policy": 6}
        | {"default_verdict": 1},
    ),
    (
        layout.ENDPOINTS,
        bytes(abi.EndpointKey(5, 1)),
        bytes(abi.Ep(make_addr("fd00::5"), wire_port(8080))),
        {"ep_set": 5, "index": 1, "addr": "fd00::5", "port": 8080},
    ),
    (
        layout.PODS,
        number(4097, 8),
        bytes(abi.Pod(1, 2, abi.POD_FAIL_CLOSED, int.from_bytes(socket.inet_aton("198.18.0.2"), "little"))),
        {"key": 4097, "pod": 1, "workload": 2, "flags": 1, "ipv4": "198.18.0.2", "ipv6": "::"},
    ),
    (
        layout.GUARD,
        number(0),
        bytes(abi.Guard(4711, 1, 0)),
        {"key": 0, "kubepods": 4711, "refuse": 1, "refuse_away": 0},
    ),
    (
        layout.LISTENERS,
        bytes(abi.ListenerKey(4097, 3, 4)),
        bytes(abi.Listener(wire_port(40001))),
        {"netns": 4097, "worker": 3, "family": 4, "port": 40001},
    ),
    (
        layout.ORIGINALS,
        abi.orig_key(4097, "198.18.0.2", 40000, 40001, 4),
        bytes(abi.Orig(make_addr("198.19.0.1"), wire_port(80), 0, 4, 99)),
        {"netns": 4097, "saddr": "198.18.0.2", "sport": 40000, "lport": 40001, "family": 4}
        | {"addr": "198.19.0.1", "port": 80, "dest": 4, "created_ns": 99},
    ),
    (layout.NAMES, number(7), bytes(abi.Name(1, b"shop/web/web")), {"key": 7, "kind": 1, "text": "shop/web/web"}),
    (layout.HEARTBEATS, number(2), number(12345, 8), {"key": 2, "value": 12345}),
    (
        layout.OWN_ADDRESSES,
        bytes(abi.OwnKey(4097, make_addr("::1"))),
        number(1),
        {"netns": 4097, "addr": "::1", "value": 1},
    ),
    (
        layout.VERDICTS,
        bytes(abi.VerdictKey(6, 1)),
        bytes(abi.Verdict(abi.ALLOW | abi.WOULD_DENY, 0, 0, 9)),
        {"policy": 6, "pod": 1, "verdict": abi.ALLOW | abi.WOULD_DENY, "rule": 0, "audit": 0, "would": 9},
    ),
    (
        layout.CONFIG,
        number(0),
        bytes(abi.Config(2000, 65536, 8192, 0, b"cgroup=/c bpffs=/b")),
        {"key": 0, "heartbeat_limit_ms": 2000, "orig_limit": 65536}
        | {"pod_limit": 8192, "instance": "cgroup=/c bpffs=/b"},
    ),
    (
        layout.CONNECT_RATES,
        number(4),
        bytes(abi.Rate(10, 50, 99, abi.RATE_DRY_RUN, 9)),
        {"key": 4, "period": 10, "tolerance": 50, "tat": 99, "flags": 1, "policy": 9},
    ),
    (
        layout.SLOTS,
        number(5, 8),
        bytes(abi.Slots(3, (1, 2))),
        {"key": 5, "total": 3, "held": [1, 2, *[0] * 14]},
    ),
    (
        layout.BUDGETS,
        number(6, 8),
        bytes(abi.Budget(99, (7,))),
        {"key": 6, "floor": 99, "slices": [7, *[0] * 9]},
    ),
]


@pytest.mark.parametrize(("name", "key", "value", "row"), CASES, ids=[case[0] for case in CASES])
def test_structs_read_as_addresses_ports_and_names(name: str, key: bytes, value: bytes, row: dict[str, Any]) -> None:
    assert rows_of(MadeUpMaps({key: value}), name) == [row]


def test_every_map_with_a_shape_has_a_case() -> None:
    assert {case[0] for case in CASES} == SHAPES.keys()


def test_counters_carry_names_and_are_sorted() -> None:
    rows = rows_of(MadeUpMaps({}), layout.CONNECTIONS)
    assert [(row["workload"], row["outcome"], row["rule"], row["opened"]) for row in rows] == [
        ("batch/job/job", "denied", "shop/no-batch", 1),
        ("shop/web/web", "direct", "", 3),
    ]


def test_request_series_of_one_worker_carry_their_labels() -> None:
    (row,) = rows_of(MadeUpMaps({}), layout.requests_map(3))
    assert row == {"route": "shop/cart", "code": "200", "requests": 5, "request_bytes": 6} | {
        "response_bytes": 7,
        "duration_us": 8,
    }


def test_a_record_is_shown_as_far_as_it_is_in_use_and_told_when_it_is_being_written() -> None:
    content = (0x030201, *[0] * 253)
    for end, whole in ((4, True), (5, False)):
        entries = {number(8, 8): bytes(abi.Record(4, 3, content, end))}
        assert rows_of(MadeUpMaps(entries), layout.RECORDS) == [
            {"key": 8, "version": 2, "whole": whole, "content": "010203"}
        ]


def test_socket_storage_cannot_be_listed() -> None:
    assert rows_of(MadeUpMaps({}), layout.SOCKETS) == []
