"""An instance's maps without an instance: made in memory, pinned nowhere."""

from __future__ import annotations

from pathlib import Path

from nodeagent.kernel import abi, bpf_map, layout
from nodeagent.kernel.maps import Maps

SPECS = (
    bpf_map.MapSpec(layout.HEARTBEATS, bpf_map.MAP_TYPE_ARRAY, 4, 8, abi.MAX_WORKERS, bpf_map.F_MMAPABLE),
    bpf_map.MapSpec(layout.ORIGINALS, bpf_map.MAP_TYPE_HASH, 32, 40, 1024, bpf_map.F_NO_PREALLOC),
)


class LooseMaps(Maps):
    """Maps whose members are opened already."""

    def __init__(self, directory: Path) -> None:
        super().__init__(layout.Layout(directory))
        self._open = {spec.name: bpf_map.Map.from_fd(bpf_map.map_create(spec)) for spec in SPECS}
