"""A request head that arrives in pieces: bounded in size and time, and refused once it cannot become one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeagent.core.refusals import refuse_request
from nodeagent.proxy.http1 import HeadProbe

if TYPE_CHECKING:
    from nodeagent.proxy.downstream import Downstream


class HeadWait:
    """Exists from the first piece until the head is whole or refused; the engine's clock for heads runs meanwhile."""

    __slots__ = ("_down", "_probe", "_seen")

    def __init__(self, down: Downstream) -> None:
        self._down = down
        self._probe = HeadProbe()
        self._seen = 0
        down.engine.heads.start(down, down.engine.now())

    def look(self, head: bytes) -> None:
        """`head` is all of it so far.  Raises Refused."""
        engine = self._down.engine
        if len(head) > engine.bounds.head_bytes:
            raise refuse_request("head-size")
        if engine.budget.exhausted:
            raise refuse_request("overloaded")
        seen, self._seen = self._seen, len(head)
        self._probe.feed(head[seen:], head)

    def stop(self) -> None:
        self._down.engine.heads.stop(self._down)
