"""Ending connections of whoever holds the most while the worker's memory is over its mark.

Looked at once per tick.  First the allocator gives back what is free; what is over the mark then is held by
somebody.  Requests that wait are answered 503 `memory-pressure`; a response that has begun is reset, as every one
that cannot be completed is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from nodeagent.core.overload import MEMORY_PRESSURE, Load, Watermark, heaviest
from nodeagent.proxy.downstream import Downstream
from nodeagent.proxy.memory import trim
from nodeagent.proxy.relayed import RelayedConnection

if TYPE_CHECKING:
    from nodeagent.proxy.engine import Engine

AT_ONCE = 50
"""Connections ended in one piece; the others of the pod follow when those that wait had their turn."""


class Shedder:
    """`resident()` = bytes of memory in use, of which `mark` says what is too much."""

    def __init__(self, engine: Engine, mark: Watermark, resident: Callable[[], int]) -> None:
        self._engine = engine
        self._mark = mark
        self._resident = resident
        self._shedding = False
        self._ending: Iterator[Downstream | RelayedConnection] = iter(())
        self._under_way = False
        self.resident = resident()

    @property
    def limit(self) -> int:
        return self._mark.high

    def tick(self) -> None:
        """Choose a pod if one has to go."""
        self.resident = self._resident()
        if self._mark.sheds(self.resident, self._shedding):
            trim()
            self.resident = self._resident()
        self._shedding = self._mark.sheds(self.resident, self._shedding)
        if self._shedding and not self._under_way:
            self._shed()

    def _shed(self) -> None:
        tenants = list(self._engine.tenants)
        position = heaviest(Load(tenant.budget.held, tenant.requests) for tenant in tenants)
        if position is None:
            return
        self._engine.stats.shed_pods += 1
        self._under_way = True
        self._ending = iter([one for one in self._engine.connections if one.tenant is tenants[position]])
        self._go_on()

    def _go_on(self) -> None:
        ended = 0
        for connection in islice(self._ending, AT_ONCE):
            ended += 1
            self._end(connection)
        self._under_way = bool(ended)
        if ended:
            self._engine.loop.call_soon(self._go_on)

    def _end(self, connection: Downstream | RelayedConnection) -> None:
        if connection not in self._engine.connections:
            return  # ended meanwhile
        self._engine.stats.shed_connections += 1
        try:
            if isinstance(connection, Downstream) and connection.exchange is not None:
                connection.exchange.shed(MEMORY_PRESSURE)
            else:
                connection.discard()
        except Exception as error:  # noqa: BLE001 - else the others stay, and nothing is ever shed again
            self._engine.loop.call_exception_handler({"message": "a connection cannot be ended", "exception": error})
