"""An exchange whose rule has timeouts: the usual one, and two timers.

A class of its own, so that other exchanges pay nothing.  The timers are the loop's (nodeagent.proxy.deadlines) and not
the engine's tick, which is too coarse.  Whichever way an exchange ends it is recorded, so that is where they stop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeagent.core.model import Endpoint
from nodeagent.core.route_timeouts import ABORTED, BACKEND_REQUEST_TIMEOUT, REQUEST_TIMEOUT, timeout_detail
from nodeagent.proxy.exchange import Exchange

if TYPE_CHECKING:
    from nodeagent.proxy.deadlines import Deadlines

FLAG = "UT"


class TimedExchange(Exchange):
    """`timeouts.request` counts from the request's head, `timeouts.backendRequest` from the start of each try."""

    __slots__ = ("_request_timer", "_try_timer")

    _request_timer: Deadlines[TimedExchange] | None
    _try_timer: Deadlines[TimedExchange] | None

    def start(self, rest: bytes) -> None:
        """Both timers run before anything is tried: the exchange may be over when that returns."""
        timeouts = self.decision.timeouts
        self._try_timer = self._request_timer = None
        if timeouts is not None and timeouts.request:
            self._request_timer = timer = self._down.engine.request_deadlines.of(timeouts.request)
            timer.start(self, self._started)
        super().start(rest)

    def _go(self, endpoint: Endpoint, reuse: bool) -> None:
        timeouts = self.decision.timeouts
        if timeouts is not None and timeouts.backend_request:
            self._stop_try_timer()
            engine = self._down.engine
            self._try_timer = timer = engine.try_deadlines.of(timeouts.backend_request)
            timer.start(self, engine.now())
        super()._go(endpoint, reuse)

    def request_timed_out(self) -> None:
        self.guarded(self._timed_out, REQUEST_TIMEOUT)

    def try_timed_out(self) -> None:
        self.guarded(self._timed_out, BACKEND_REQUEST_TIMEOUT)

    def _timed_out(self, reason: str) -> None:
        if self._over:
            return
        if self._response.done:
            if reason == REQUEST_TIMEOUT:
                self._end_upload()
        elif self._response.plan is None:
            self._answer(504, reason, self._detail(reason), FLAG)
        else:
            self._abort(FLAG, reason + ABORTED, self._detail(reason))

    def _detail(self, reason: str) -> str:
        decision = self.decision
        assert decision.timeouts is not None
        return timeout_detail(decision.timeouts, reason, decision.route, decision.rule)

    def _end_upload(self) -> None:
        """The client has the whole response, in time; what is left of its request is not waited for any longer."""
        self._response.reusable = False
        self._finish()

    def _switch(self) -> None:
        """101 was the response: what follows is neither request nor response."""
        self._stop_timers()
        super()._switch()

    def _record(self, status: int, flag: str = "", reason: str = "") -> None:
        self._stop_timers()
        super()._record(status, flag, reason)

    def _stop_try_timer(self) -> None:
        if self._try_timer is not None:
            self._try_timer.stop(self)
            self._try_timer = None

    def _stop_timers(self) -> None:
        self._stop_try_timer()
        if self._request_timer is not None:
            self._request_timer.stop(self)
            self._request_timer = None
