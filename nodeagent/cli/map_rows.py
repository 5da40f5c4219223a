"""Entries of each map as plain rows: the structs of bpf/abi.h with addresses, ports and names in words."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

from nodeagent.kernel import abi, layout
from nodeagent.kernel.maps import Maps

Row = dict[str, Any]
Struct = type[ctypes.Structure]

# map -> (struct of the key or None for an integer, struct of the value or None)
SHAPES: dict[str, tuple[Struct | None, Struct | None]] = {
    layout.CONFIG: (None, abi.Config),
    layout.PODS: (None, abi.Pod),
    layout.GUARD: (None, abi.Guard),
    layout.OWN_ADDRESSES: (abi.OwnKey, None),
    layout.DESTINATIONS: (abi.DestKey, abi.Dest),
    layout.CONNECT_RATES: (None, abi.Rate),
    layout.ENDPOINTS: (abi.EndpointKey, abi.Ep),
    layout.VERDICTS: (abi.VerdictKey, abi.Verdict),
    layout.LISTENERS: (abi.ListenerKey, abi.Listener),
    layout.ORIGINALS: (abi.OrigKey, abi.Orig),
    layout.HEARTBEATS: (None, None),
    layout.NAMES: (None, abi.Name),
    layout.SLOTS: (None, abi.Slots),
    layout.BUDGETS: (None, abi.Budget),
}
PORTS = {"port", "lport", "sport"}


def rows_of(maps: Maps, name: str) -> list[Row]:
    """All entries; socket storage has none that can be listed."""
    special = _SPECIAL.get(name)
    if special is not None:
        return list(special(maps))
    if name.startswith(layout.REQUESTS):
        return [] if name == layout.REQUESTS else list(_series(maps, int(name.rpartition("_")[2])))
    key_type, value_type = SHAPES.get(name, (None, None))
    return [
        {**_fields(key_type, key, "key"), **_fields(value_type, value, "value")}
        for key, value in sorted(maps.map(name).items().items())
    ]


def _fields(kind: Struct | None, raw: bytes, word: str) -> Row:
    if kind is None:
        return {word: int.from_bytes(raw, "little", signed=word == "value")}  # `in_flight` counts up and down
    value = kind.from_buffer_copy(raw)
    names = [field[0] for field in kind._fields_ if field[0] != "pad"]
    return {name: _plain(name, getattr(value, name)) for name in names}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, ctypes.Array):
        return list(value)
    if isinstance(value, abi.Addr):
        return abi.unpack_addr(bytes(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if name in PORTS:
        return abi.wire_port(value)
    if name == "ipv4":
        return ".".join(str(byte) for byte in int(value).to_bytes(4, "little"))
    return value


def _connections(maps: Maps) -> Iterator[Row]:
    for row in sorted(maps.connections(), key=lambda row: (row.workload, row.destination, row.outcome)):
        yield {
            "workload": row.workload,
            "destination": row.destination,
            "outcome": row.outcome.name.lower(),
            "rule": row.rule,
            "opened": row.opened,
            "closed": row.closed,
            "failed": row.failed,
            "tx_bytes": row.tx_bytes,
            "rx_bytes": row.rx_bytes,
        }


def _series(maps: Maps, worker: int) -> Iterator[Row]:
    for row in maps.request_series(worker):
        yield {
            **row.labels,
            "requests": row.requests,
            "request_bytes": row.request_bytes,
            "response_bytes": row.response_bytes,
            "duration_us": row.duration_us,
        }


def _records(maps: Maps) -> Iterator[Row]:
    for key, value in sorted(maps.map(layout.RECORDS).items().items()):
        record = abi.Record.from_buffer_copy(value)
        yield {
            "key": int.from_bytes(key, "little"),
            "version": record.begin // 2,
            "whole": record.begin == record.end and not record.begin % 2,
            "content": bytes(record.content)[: record.length].hex(),
        }


def _dialled(maps: Maps) -> Iterator[Row]:
    """Of hashes nobody can tell the addresses."""
    dialled = maps.dialled()
    yield {"turn": dialled.turn, "used": dialled.used(), "places": abi.DIALLED_PLACES}


_SPECIAL: dict[str, Callable[[Maps], Iterator[Row]]] = {
    layout.CONNECTIONS: _connections,
    layout.DIALLED: _dialled,
    layout.RECORDS: _records,
    layout.BLANK_RECORD: lambda _maps: iter(()),
    layout.SOCKETS: lambda _maps: iter(()),
}
