"""A dry run of one request: what policies in DryRun would have done to it, and nothing that it can feel.

It is a full simulation, as it goes along: a request that would have been refused takes nothing further of what the
dry run counts, one that would have ended early gives back then what it held, and its endpoint is judged by what
would have come of it.  What nobody can know is not guessed: how a retry, or a request sent elsewhere, would have gone.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from typing import TYPE_CHECKING, Protocol

from nodeagent.core.dry_run import WOULD_EJECT, WOULD_OVERFLOW, WOULD_RETRY, WOULD_TIME_OUT
from nodeagent.core.ledger import TAKEN, Ledger, Prepared, Slot
from nodeagent.core.model import Endpoint
from nodeagent.core.retries import Failure, why_not

if TYPE_CHECKING:
    from nodeagent.proxy.policies.cluster import Cluster
    from nodeagent.proxy.policies.gate import Gate

Outcome = tuple[str, str]  # (word, policy)


class Watched(Protocol):
    """The request, as it really goes."""

    @property
    def request_done(self) -> bool: ...
    @property
    def head_came(self) -> bool: ...
    @property
    def response_done(self) -> bool: ...
    @property
    def quiet_seconds(self) -> float:
        """Since something moved, either way."""

    def is_repeatable(self, *, sent: bool) -> bool:
        """May it be sent once more, as far as its method and its size go?"""


class Shadow:
    """`outcome` is how the dry run ended the request, None = it went on; `others` are what happened beside it.

    A TrafficPolicy is simulated by `cluster`, with `retry` for what one retry takes of its budget; limits by `gate`.
    """

    __slots__ = (
        "_cluster",
        "_connected",
        "_gate",
        "_ledger",
        "_loop",
        "_places",
        "_retries",
        "_retry",
        "_timers",
        "_trying",
        "_watched",
        "others",
        "outcome",
    )

    _loop: AbstractEventLoop

    def __init__(self, ledger: Ledger, cluster: Cluster | None, gate: Gate | None, retry: Prepared | None) -> None:
        self._ledger = ledger
        self._cluster = cluster
        self._gate = gate
        self._retry = retry
        self._retries = 0
        self._watched: Watched | None = None
        self._trying: Endpoint | None = None  # what the outcome of the current try counts for
        self._connected = True
        self._places: dict[str, Prepared] = {}  # held for the current try
        self._timers: dict[str, TimerHandle] = {}
        self.outcome: Outcome | None = None
        self.others: list[Outcome] = []

    def refused(self, word: str, policy: str) -> None:
        """It was not let in by the gate, which holds nothing then."""
        self._gate = None
        self.outcome = (word, policy)

    # ---- as the request goes ----

    def start(self, watched: Watched, loop: AbstractEventLoop, started: float) -> None:
        """From now on its time counts; `started` is on the loop's clock."""
        if self._cluster is None or self.outcome is not None:
            return
        self._watched, self._loop = watched, loop
        timeouts = self._cluster.timeouts
        if timeouts.request:
            self._timers["request"] = loop.call_at(started + timeouts.request / 1000, self._time_out)
        if timeouts.idle:
            self._timers["idle"] = loop.call_later(timeouts.idle / 1000, self._look_if_idle)

    def tried(self, endpoint: Endpoint) -> None:
        """A try begins.  It has a connection, idle ones giving way."""
        cluster = self._cluster
        if cluster is None or self.outcome is not None:
            return
        self._trying, self._connected = endpoint, True
        if self._take("connection", cluster.caps.connections) and cluster.timeouts.per_try:
            self._timers["try"] = self._loop.call_later(cluster.timeouts.per_try / 1000, self._try_over)

    def connecting(self) -> None:
        """A connection is opened for the try."""
        cluster = self._cluster
        if cluster is None or self.outcome is not None:
            return
        self._connected = False
        if self._take("pending", cluster.caps.pending_requests) and cluster.timeouts.connect:
            self._timers["connect"] = self._loop.call_later(cluster.timeouts.connect / 1000, self._connect_over)

    def connected(self) -> None:
        self._connected = True
        self._stop("connect")
        self._give("pending")

    def answered(self, endpoint: Endpoint, status: int) -> None:
        """The head of a response came."""
        cluster = self._cluster
        if cluster is None or endpoint != self._trying:
            return
        if cluster.answered(endpoint, status, 0.0, cluster.simulated_probe(endpoint)):
            self.others.append((WOULD_EJECT, cluster.policy))
        if status >= 400 and self._would_retry(Failure.STATUS, status):
            self._trying = None

    def failed(self, endpoint: Endpoint) -> None:
        """No response came."""
        if self._cluster is not None and endpoint == self._trying:
            self._blame(self._cluster)
            self._would_retry(Failure.RESET if self._connected else Failure.CONNECT, 0)
            self._trying = None

    def left(self) -> None:
        """The try is over."""
        self._trying = None
        for name in ("try", "connect"):
            self._stop(name)
        for name in ("pending", "connection"):
            self._give(name)

    def switched(self) -> None:
        """101: what follows is no request, and has no time."""
        self._stop_all()

    def finish(self) -> list[Outcome]:
        """The request is over.  Everything there is to count."""
        cluster = self._cluster
        self._let_go()
        if cluster is not None:
            self.others += [(WOULD_EJECT, cluster.policy)] * cluster.take_unreported()
        return [self.outcome, *self.others] if self.outcome is not None else self.others

    # ---- what would have happened ----

    def _look_if_idle(self) -> None:
        assert self._cluster is not None
        assert self._watched is not None
        left = self._cluster.timeouts.idle / 1000 - self._watched.quiet_seconds
        if left > 0:
            self._timers["idle"] = self._loop.call_later(left, self._look_if_idle)
        else:
            self._time_out()

    def _try_over(self) -> None:
        self._time_out(Failure.TRY_TIMEOUT)

    def _connect_over(self) -> None:
        self._time_out(Failure.CONNECT)

    def _time_out(self, failure: Failure | None = None) -> None:
        """Of a try, if `failure` says how it failed: then a retry may have followed."""
        watched, cluster = self._watched, self._cluster
        if watched is None or cluster is None or watched.response_done:
            return
        if not watched.head_came:
            if self._trying is not None and watched.request_done:
                self._blame(cluster)
            if failure is not None and self._would_retry(failure, 0):
                self.left()
                return
        self._end(WOULD_TIME_OUT)

    def _blame(self, cluster: Cluster) -> None:
        endpoint = self._trying
        if endpoint is not None and cluster.failed(endpoint, cluster.simulated_probe(endpoint)):
            self.others.append((WOULD_EJECT, cluster.policy))

    def _would_retry(self, failure: Failure, status: int) -> bool:
        """Counted, if it is so."""
        cluster, watched = self._cluster, self._watched
        retry = cluster.retry if cluster is not None else None
        if cluster is None or watched is None or retry is None:
            return False
        repeatable = watched.is_repeatable(sent=self._connected and failure is not Failure.CONNECT)
        if why_not(retry, failure, status, self._retries, repeatable=repeatable) is not None:
            return False
        if self._retry is not None and self._ledger.take(self._retry) != TAKEN:
            return False
        self._retries += 1
        self.others.append((WOULD_RETRY, cluster.policy))
        return True

    # ---- what is held ----

    def _take(self, name: str, slot: Slot | None) -> bool:
        """False when there is no place: that is how the request would have ended."""
        if slot is None or name in self._places:
            return True
        place = self._ledger.prepare([slot])
        if self._ledger.take(place) != TAKEN:
            self._end(WOULD_OVERFLOW)
            return False
        self._places[name] = place
        return True

    def _give(self, name: str) -> None:
        place = self._places.pop(name, None)
        if place is not None:
            self._ledger.give(place)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _stop_all(self) -> None:
        for name in list(self._timers):
            self._stop(name)

    def _end(self, word: str) -> None:
        """The request would have ended here."""
        assert self._cluster is not None
        self.outcome = (word, self._cluster.policy)
        self._let_go()

    def _let_go(self) -> None:
        self._stop_all()
        self.left()
        self._watched = None
        if self._gate is not None:
            self._gate.leave()
            self._gate = None
