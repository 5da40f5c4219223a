"""Where redirected connections were going: the kernel's map `originals`, each entry taken once."""

from __future__ import annotations

import socket
import struct
from functools import lru_cache

from nodeagent.kernel import abi
from nodeagent.kernel.bpf_map import Map, PreparedTake

_KEY = struct.Struct("=Q16sHHI")  # struct na_orig_key
_VALUE = struct.Struct("=16sH")  # the start of struct na_orig

_packed = lru_cache(maxsize=4096)(abi.pack_addr)
_text = lru_cache(maxsize=4096)(abi.unpack_addr)


class KernelOriginals:
    """Implements acceptor.OriginalDestinations by LOOKUP_AND_DELETE on an inherited descriptor."""

    def __init__(self, table: Map) -> None:
        self._take = PreparedTake(table)

    def take(self, cookie: int, address: str, port: int, listener_port: int, family: int) -> tuple[str, int] | None:
        take = self._take
        _KEY.pack_into(take.key, 0, cookie, _packed(address), socket.htons(port), socket.htons(listener_port), family)
        if not take():
            return None
        packed, wire_port = _VALUE.unpack_from(take.value)
        return _text(packed), socket.ntohs(wire_port)
