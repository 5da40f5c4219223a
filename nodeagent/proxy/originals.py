"""Where redirected connections were going: the kernel's map `originals`, each entry taken once."""

from __future__ import annotations

from nodeagent.kernel import abi
from nodeagent.kernel.bpf import Map


class KernelOriginals:
    """Implements acceptor.OriginalDestinations by LOOKUP_AND_DELETE on an inherited descriptor."""

    def __init__(self, table: Map) -> None:
        self._table = table

    def take(self, cookie: int, address: str, port: int, listener_port: int, family: int) -> tuple[str, int] | None:
        raw = self._table.take(abi.orig_key(cookie, address, port, listener_port, family))
        if raw is None:
            return None
        found = abi.Orig.from_buffer_copy(raw)
        return abi.unpack_addr(bytes(found.addr)), abi.wire_port(found.port)
