"""The places that one upstream connection holds under a circuit breaker, from its opening to its end."""

from __future__ import annotations

from nodeagent.core.ledger import Ledger, Prepared


class Lease:
    """`connection` is held until the connection is closed, `pending` until it is made; None = there is no such cap."""

    __slots__ = ("_connection", "_ledger", "_pending")

    def __init__(self, ledger: Ledger, connection: Prepared | None, pending: Prepared | None) -> None:
        self._ledger = ledger
        self._connection = connection
        self._pending = pending

    def connected(self) -> None:
        """The request waits no longer."""
        if self._pending is not None:
            self._ledger.give(self._pending)
            self._pending = None

    def end(self) -> None:
        self.connected()
        if self._connection is not None:
            self._ledger.give(self._connection)
            self._connection = None
