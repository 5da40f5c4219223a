"""An exchange under a TrafficPolicy, or under `retry` of its rule: several tries, caps, health of endpoints, faults.

A *try* is the request sent to one endpoint.  Another may follow as long as nothing of a response was passed on;
`nodeagent.core.retries` says whether and when.  Exchanges without a policy pay nothing for this: it is a class of its
own.  Every way an exchange ends is recorded, so that is where what it held is given back.
"""

from __future__ import annotations

import time
from asyncio import TimerHandle
from collections.abc import Callable
from dataclasses import replace
from random import random
from typing import TYPE_CHECKING

from nodeagent.core import retries
from nodeagent.core.faults import Fault
from nodeagent.core.framing import Body
from nodeagent.core.model import Decision, Endpoint, RequestHead
from nodeagent.core.outlier import blames_endpoint
from nodeagent.core.overload import SERVER_OVERLOADED, detail_of
from nodeagent.core.policy_refusals import FAULT_ABORT, FAULT_DELAY_FLAG, IDLE_TIMEOUT, fault_detail, idle_detail
from nodeagent.core.refusals import Refusal
from nodeagent.core.request_plan import RequestPlan
from nodeagent.core.response_plan import value_in_head
from nodeagent.core.retries import IDEMPOTENT, Failure, NoRetry
from nodeagent.core.route_timeouts import BACKEND_REQUEST_TIMEOUT
from nodeagent.proxy.exchange import CONNECT_TRIES, Exchange
from nodeagent.proxy.policies.cluster import Refusing
from nodeagent.proxy.policies.passage import Passage
from nodeagent.proxy.pool import Pool
from nodeagent.proxy.response import Response
from nodeagent.proxy.timed_exchange import TimedExchange
from nodeagent.proxy.upstream import Key

if TYPE_CHECKING:
    from nodeagent.proxy.deadlines import Deadlines
    from nodeagent.proxy.downstream import Downstream
    from nodeagent.proxy.policies.gate import Gate
    from nodeagent.proxy.policies.handling import Handling

EXHAUSTED = "URX"
"""Envoy's flag: every retry was made, and the last try's answer was passed on."""


class ManagedExchange(TimedExchange):
    """What holds the request's places until the end is its Passage, or, as long as it goes the short way, its gate."""

    __slots__ = (
        "_attempts",
        "_connect_timer",
        "_flag",
        "_gate",
        "_handling",
        "_head",
        "_head_size",
        "_held",
        "_idle",
        "_idle_timer",
        "_judged",
        "_kept",
        "_made",
        "_retry",
        "_retry_timer",
        "_try_started",
        "_trying",
        "_usual",
        "group",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - of every request: a value object for these costs as much as their use
        self,
        down: Downstream,
        plan: RequestPlan,
        decision: Decision,
        started: float,
        size: int,
        handling: Handling,
        head: RequestHead,
        gate: Gate | None = None,
        passage: Passage | None = None,
    ) -> None:
        super().__init__(down, plan, decision, started, size)
        self._handling = handling
        self._head = head
        self._gate = gate
        self._made = passage
        self._retry = handling.retry
        self._head_size = size
        self._held: bytes | None = None  # the request as far as it has come, while it may be sent again
        self._kept = 0  # of that, in the worker's budget: all if there is a body
        self._attempts = 0  # retries made
        self._retry_timer: TimerHandle | None = None  # of a retry, or of a delay that is injected
        self._connect_timer: TimerHandle | None = None
        self._idle: Deadlines[ManagedExchange] | None = None  # the first look, which is usually not needed
        self._idle_timer: TimerHandle | None = None  # later ones
        self._trying: Endpoint | None = None
        self._try_started = started
        self._judged = False  # how this try went is known
        self._flag = ""
        self._usual = False  # nothing is held but the place that the gate gave, and nothing runs but the request's time
        self.group = handling.group
        if passage is not None and passage.shadow is not None and passage.shadow.outcome is not None:
            self.not_under_trial()

    @property
    def _passage(self) -> Passage:
        """Made when it is first needed: a request that goes the short way has none."""
        made = self._made
        if made is None:
            address = self._down.caller_address
            made = self._made = Passage(self._handling, self.decision, self._head, address, self._gate)
            made.first = not self._usual
        return made

    # ---- the usual request ----

    def _begin(self) -> None:
        """Most requests meet no trouble and need no choice: for them the policy costs as little as may be."""
        handling, endpoint, timeouts = self._handling, self.decision.endpoint, self.decision.timeouts
        health = handling.health
        if (
            not handling.may_be_usual
            or (health is not None and health.calm_at != handling.pulse_cell[0])
            or self._made is not None
            or self._plan.body != Body.NONE
            or (timeouts is not None and timeouts.backend_request)
            or endpoint is None
            or not self._has_room(endpoint)
        ):
            self._begin_unusual()
            return
        if self._retry is not None and self._plan.method in IDEMPOTENT:
            self._held = self._unsent
        self._usual = True
        self._trying = endpoint
        Exchange._go(self, endpoint, reuse=True)

    def _has_room(self, endpoint: Endpoint) -> bool:
        return self._down.engine.tenants.has_room(endpoint.address)

    def _record_usual(self, status: int, flag: str, reason: str) -> None:
        """What `_record` does, where nothing has happened."""
        try:
            if self._made is not None:
                self._made.end()
            elif self._gate is not None:
                self._gate.leave()
        except Exception as error:  # noqa: BLE001 - as in `_record`
            self._report(error)
        timer = self._request_timer
        if timer is not None:
            timer.stop(self)
            self._request_timer = None
        Exchange._record(self, status, flag, reason)

    # ---- a try ----

    def _begin_unusual(self) -> None:
        handling = self._handling
        if self._retry is not None and self._plan.method in IDEMPOTENT:
            self._keep(self._unsent)
            if self._kept:
                self._count_unsent()
        if self._passage.shadow is not None:
            self._passage.shadow.start(self, self._down.engine.loop, self._started)
        if handling.idle:
            engine = self._down.engine
            self._idle = first = engine.idle_deadlines.of(handling.idle_ms)
            first.start(self, engine.now())
        if handling.fault is None:
            self._go_or_refuse(self._passage.choose((), again=True))
        else:
            self._suffer(self._passage.fault(handling.fault))

    def _keep(self, held: bytes) -> None:
        """Hold what may have to be sent again, unless the body is too large, or pod or worker hold too much."""
        down, body = self._down, self._body.size - self._head_size
        fits = body <= down.engine.bounds.replay_bytes and not down.tenant.budget.exhausted
        self._held = held if fits else None
        self._kept = len(held) if fits and self._plan.body != Body.NONE else 0

    def _pass_body_on(self, out: bytes) -> None:
        if self._held is not None:
            self._keep(self._held + out)
            self._count_unsent()
        super()._pass_body_on(out)

    def _count_unsent(self) -> None:
        """What is kept is counted once, though it may be what is unsent, too, or what is kept for resending."""
        unsent = len(self._unsent) if self._up is None or not self._up.connected else 0
        held = max(unsent - self._resend_kept, self._kept - self._resend_kept, 0)
        if held != self._counted:
            self._down.tenant.budget.add(held - self._counted)
            self._counted = held

    def _let_go(self) -> None:
        """It will not be sent again."""
        self._held = None
        if self._kept:
            self._kept = 0
            self._count_unsent()

    def _suffer(self, fault: Fault) -> None:
        if fault.delay_ms:
            self._flag = FAULT_DELAY_FLAG
            self._count_unsent()
            self._retry_timer = self._later(fault.delay_ms / 1000, self._suffer, Fault(0, fault.abort_status))
        elif fault.abort_status:
            refusal = FAULT_ABORT._replace(status=fault.abort_status)
            self._refuse(Refusing(refusal, fault_detail(self._handling.policy)))
        else:
            self._try()

    def _try(self) -> None:
        self._retry_timer = None
        self._go_or_refuse(self._passage.choose(self._tried, again=True))

    def _go_or_refuse(self, endpoint: Endpoint | None) -> None:
        if endpoint is None:
            self._refuse(self._passage.unhealthy())
        elif (roomy := self._with_room(endpoint)) is None:
            self._refuse(Refusing(SERVER_OVERLOADED, detail_of(SERVER_OVERLOADED)))
        else:
            self._go(roomy, reuse=True)

    def _with_room(self, endpoint: Endpoint) -> Endpoint | None:
        """`endpoint`, or another one if its pod has as many requests as it may."""
        passage = self._passage
        if self._has_room(endpoint):
            return endpoint
        passage.pass_over(endpoint)
        other = passage.choose((*self._tried, endpoint), again=False)
        if other is None or self._has_room(other):
            return other
        passage.pass_over(other)
        return None

    def _go(self, endpoint: Endpoint, reuse: bool) -> None:
        self._usual = False
        if endpoint != self._trying:
            self._leave_endpoint()
            self._trying = endpoint
            self._passage.enter(endpoint)
        if self._tried:  # else it began with the request
            self._try_started = self._down.engine.now()
        self._judged = False
        if endpoint is not self.decision.endpoint:
            self.decision = self._passage.decision_for(endpoint)
        super()._go(endpoint, reuse)

    def _open(self, pool: Pool, key: Key) -> None:
        """A new connection, if there is room for one."""
        self._usual = False
        lease = self._passage.lease(pool)
        if isinstance(lease, Refusing):
            self._refuse(lease)
            return
        self._up = upstream = pool.open(key, self)
        upstream.lease = lease
        if self._passage.shadow is not None:
            self._passage.shadow.connecting()
        if self._handling.connect:
            self._connect_timer = self._later(self._handling.connect, self._connect_timed_out)
        upstream.connect()

    def upstream_connected(self) -> None:
        self._stop_connect_timer()
        if self._passage.shadow is not None:
            self._passage.shadow.connected()
        super().upstream_connected()

    def _connect_timed_out(self) -> None:
        upstream, self._up = self._up, None
        assert upstream is not None
        late = upstream.lateness
        upstream.discard()
        self.upstream_failed(late)

    # ---- tries that fail ----

    def upstream_failed(self, error: OSError) -> None:
        self._stop_connect_timer()
        self._up = None
        if blames_endpoint(error):
            self._report_failure()
        if self._retry is not None:
            if not self._again(Failure.CONNECT, 0):
                self._cannot_connect()
            return
        self._leave_endpoint()
        other = self._passage.choose(self._tried, again=False) if len(self._tried) < CONNECT_TRIES else None
        other = self._with_room(other) if other is not None else None
        if other is None:
            self._cannot_connect()
        else:
            self._down.engine.stats.connect_retries += 1
            self._go(other, reuse=True)

    def _ended_before_response(self) -> None:
        if self._reused and self._held is not None and self._body.done and not self._response.begun:
            self._resend = self._held
        stale = self._reused and self._resend is not None and not self._response.begun
        if not stale:
            self._report_failure()
            if not self._response.held and self._again(Failure.RESET, 0):
                return
        super()._ended_before_response()

    def _replay(self, request: bytes) -> None:
        """The same try on another connection: its endpoint, and its being a probe, stay."""
        tried = self._tried[:-1]
        super()._replay(request)
        self._tried = tried + self._tried

    def _response_broken(self, refusal: Refusal) -> None:
        self._report_failure()
        super()._response_broken(refusal)

    def _timed_out(self, reason: str) -> None:
        if not self._over and self._response.plan is None:
            self._report_lateness()
            if reason == BACKEND_REQUEST_TIMEOUT and self._again(Failure.TRY_TIMEOUT, 0):
                return
        super()._timed_out(reason)

    def stalled(self) -> None:
        self._report_lateness()
        super().stalled()

    def _pass_on(self, out: bytes) -> None:
        """The head of a response decides whether it is the last word."""
        if self._attempts and self._down.stream.backed_up:
            self.pause_response()  # a client that was behind before this try began: nothing has paused its upstream
        plan = self._response.plan
        if plan is not None and not self._judged:
            self._judged = True
            endpoint = self._trying
            assert endpoint is not None
            handling = self._handling
            health = handling.health
            if self._usual and plan.status < 400 and (health is None or health.calm_at == handling.pulse_cell[0]):
                counts = handling.tallies.get(endpoint)
                if counts is not None:
                    counts[0] += 1
                    counts[1] += 1
                self._held = None
            else:
                self._passage.answered(endpoint, plan.status, self._down.engine.now() - self._try_started)
                if plan.status >= 400 and self._again(Failure.STATUS, plan.status):
                    return
                field = self._passage.response_field(endpoint)
                if field is not None:
                    out = _with_field(out, plan.head, field)
                self._let_go()
        Exchange._pass_on(self, out)

    # ---- the next try ----

    def _again(self, failure: Failure, status: int) -> bool:
        """True when the failure is dealt with: by a retry to come, or by an answer in place of one."""
        retry = self._retry
        if retry is None or self._over:
            return False
        sent, held = self._up is not None and self._up.connected, self._held is not None and self._body.done
        repeatable = retries.is_repeatable(self._plan.method, sent=sent, held=held)
        why = retries.why_not(retry, failure, status, self._attempts, repeatable=repeatable)
        if why is not None:
            self._flag = EXHAUSTED if why is NoRetry.ATTEMPTS and self._attempts else self._flag
            return False
        wait = retries.backoff_ms(retry, self._attempts + 1, random(), self._retry_after(failure))
        if not retries.fits(wait, self._left()):
            return False
        refused = self._passage.take_retry()
        if refused is not None:
            self._leave_upstream()
            self._refuse(refused)
        else:
            self._retry_in(wait / 1000)
        return True

    def _retry_in(self, seconds: float) -> None:
        self._usual = False
        engine = self._down.engine
        self._attempts += 1
        engine.stats.retries += 1
        self._leave_endpoint()
        self._stop_try_timer()
        self._stop_connect_timer()
        self._leave_upstream()
        if self._held is not None:
            self._unsent = self._held
        self._count_unsent()
        changes = self.decision.changes
        self._response = Response(self._plan, engine.bounds, changes.response if changes is not None else None)
        self._retry_timer = self._later(seconds, self._try)

    def _leave_upstream(self) -> None:
        """A response that was read whole leaves its connection to others."""
        upstream, self._up = self._up, None
        if upstream is None:
            return
        response = self._response
        if response.done and response.reusable and response.plan is not None:
            upstream.stream.resume_reading()
            upstream.release(response.plan.idle_seconds)
        else:
            upstream.discard()

    def _left(self) -> float:
        """Milliseconds until the request ends for another reason: that its time is over, or that nothing moves."""
        engine, timeouts = self._down.engine, self.decision.timeouts
        stall = engine.bounds.stall_seconds
        still = min(self._handling.idle or stall, stall) * 1000
        if timeouts is None or not timeouts.request:
            return still
        return min(still, timeouts.request - (engine.now() - self._started) * 1000)

    def _retry_after(self, failure: Failure) -> float | None:
        plan = self._response.plan
        value = value_in_head(plan.head, b"retry-after") if failure is Failure.STATUS and plan is not None else None
        return None if value is None else retries.retry_after_seconds(value.decode("latin-1"), time.time())

    # ---- what a dry run looks at ----

    @property
    def head_came(self) -> bool:
        return self._response.plan is not None

    @property
    def response_done(self) -> bool:
        return self._response.done

    @property
    def quiet_seconds(self) -> float:
        return self._down.engine.tick - self._down.used

    def is_repeatable(self, *, sent: bool) -> bool:
        small = self._body.size - self._head_size <= self._down.engine.bounds.replay_bytes
        return retries.is_repeatable(self._plan.method, sent=sent, held=small and self._body.done)

    # ---- ends ----

    def _switch(self) -> None:
        if self._passage.shadow is not None:
            self._passage.shadow.switched()
        super()._switch()

    def _refuse(self, refusing: Refusing) -> None:
        """Counted for the policy, as what is refused before a request is forwarded; caps of pods are of none."""
        refusal, detail = refusing
        policy = self._handling.policy if refusal is not SERVER_OVERLOADED else ""
        self.decision = replace(self.decision, policy=policy)
        self._answer(refusal.status, refusal.reason, detail, refusal.flag)

    def _report_failure(self) -> None:
        """The endpoint failed; once for each try."""
        if self._trying is not None and not self._judged:
            self._judged = True
            self._passage.failed(self._trying)

    def _report_lateness(self) -> None:
        """Nobody can answer a request that has not come whole: then it was the client who was late."""
        if self._body.done:
            self._report_failure()

    def _leave_endpoint(self) -> None:
        if self._trying is not None:
            self._passage.leave(self._trying)
            self._trying = None

    def look_if_idle(self) -> None:
        self.guarded(self._look_if_idle)

    def _look_if_idle(self) -> None:
        """`used` is on the engine's coarse clock, so this comes up to a tick late."""
        engine, handling = self._down.engine, self._handling
        self._idle = None
        left = self._down.used + handling.idle - engine.tick
        if left > 0:
            self._idle_timer = self._later(left, self._look_if_idle)
        elif self._response.done:
            self._end_upload()
        elif self._response.plan is None:
            self._report_lateness()
            self._refuse(Refusing(IDLE_TIMEOUT, idle_detail(handling.policy)))
        else:
            self._abort(IDLE_TIMEOUT.flag, IDLE_TIMEOUT.reason, idle_detail(handling.policy))

    # ---- timers ----

    def _later(self, seconds: float, action: Callable[..., None], *args: object) -> TimerHandle:
        return self._down.engine.loop.call_later(seconds, self.guarded, action, *args)

    def _stop_connect_timer(self) -> None:
        if self._connect_timer is not None:
            self._connect_timer.cancel()
            self._connect_timer = None

    def _stop_timers(self) -> None:
        super()._stop_timers()
        self._stop_connect_timer()
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None
        if self._idle is not None:
            self._idle.stop(self)
            self._idle = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _record(self, status: int, flag: str = "", reason: str = "") -> None:
        if self._usual:
            self._record_usual(status, flag, reason)
            return
        try:
            self._give_back()
        except Exception as error:  # noqa: BLE001 - reported, counted; the client has its answer, and is not to wait
            self._report(error)
        super()._record(status, flag or self._flag, reason)

    def _give_back(self) -> None:
        passage = self._passage
        self._let_go()
        passage.end()
        self._leave_endpoint()
        if passage.shadow is not None:
            outcomes = passage.shadow.finish()
            if outcomes:
                self.decision = replace(self.decision, would=tuple(outcomes))


def _with_field(out: bytes, head: bytes, field: tuple[str, str]) -> bytes:
    """`out` has the head, after interim responses maybe; what is added is the last field."""
    at = out.index(head) + len(head) - 2
    return out[:at] + f"{field[0]}: {field[1]}\r\n".encode("latin-1") + out[at:]
