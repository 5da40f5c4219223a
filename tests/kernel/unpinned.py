"""Maps of a test's own, pinned nowhere, and what they hold."""

from __future__ import annotations

import ctypes

from nodeagent.kernel import abi, bpf_map, layout
from nodeagent.kernel.maps import Maps

SIZES = {
    layout.PODS: (8, ctypes.sizeof(abi.Pod), 64),
    layout.OWN_ADDRESSES: (ctypes.sizeof(abi.OwnKey), 1, 64),
    layout.DESTINATIONS: (ctypes.sizeof(abi.DestKey), ctypes.sizeof(abi.Dest), 4),
    layout.CONNECT_RATES: (4, ctypes.sizeof(abi.Rate), 64),
    layout.ENDPOINTS: (8, ctypes.sizeof(abi.Ep), 64),
    layout.VERDICTS: (8, ctypes.sizeof(abi.Verdict), 64),
    layout.IN_FLIGHT: (8, 8, 64),
    layout.NAMES: (4, ctypes.sizeof(abi.Name), 64),
    layout.CONNECTIONS: (ctypes.sizeof(abi.ConnKey), ctypes.sizeof(abi.ConnStats), 64),
}


def unpinned(**rooms: int) -> Maps:
    """Maps of their own; `rooms` are sizes that differ from SIZES."""
    made = Maps(layout.Layout())
    for name, (key, value, size) in SIZES.items():
        room = rooms.get(name, size)
        kind = bpf_map.MAP_TYPE_PERCPU_HASH if name == layout.CONNECTIONS else bpf_map.MAP_TYPE_HASH
        spec = bpf_map.MapSpec(name, kind, key, value, room, bpf_map.F_NO_PREALLOC)
        made._open[name] = bpf_map.Map.from_fd(bpf_map.map_create(spec))
    return made


def names_in(maps: Maps) -> dict[int, tuple[abi.NameKind, str]]:
    """id -> (kind, text), of all; without the entry that holds the next free id."""
    kinds = {
        int.from_bytes(key, "little"): abi.NameKind(abi.Name.from_buffer_copy(value).kind)
        for key, value in maps.map(layout.NAMES).items().items()
    }
    return {number: (kind, maps.text(number)) for number, kind in kinds.items() if kind != abi.NameKind.NEXT}
