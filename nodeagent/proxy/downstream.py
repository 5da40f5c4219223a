"""The client's side of a connection: requests in, one after another, answers out in the same order.

HEAD      waiting for a request head, or holding part of one
BUSY      a request is in flight; `exchange` owns the rest of its body and its response
DISCARD   a request was answered here; what is left of its body is thrown away
LINGER    the last answer was sent; input is thrown away until the client closes
RELAYING  bytes both ways, out of our hands
CLOSED
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable
from dataclasses import replace
from random import choice, random
from typing import TYPE_CHECKING

from nodeagent.core.dry_run import WOULD_OVERFLOW
from nodeagent.core.framing import Body
from nodeagent.core.model import Decision, RequestHead, Treatment, Workload
from nodeagent.core.overload import SERVER_OVERLOADED, refused
from nodeagent.core.refusals import REQUESTS, Refusal, Refused
from nodeagent.core.request_plan import RequestPlan
from nodeagent.proxy.budgets import READ_BYTES
from nodeagent.proxy.exchange import Exchange
from nodeagent.proxy.head_wait import HeadWait
from nodeagent.proxy.managed_exchange import ManagedExchange
from nodeagent.proxy.relay import Relay
from nodeagent.proxy.replies import redirection, reply
from nodeagent.proxy.stream import Stream
from nodeagent.proxy.timed_exchange import TimedExchange

if TYPE_CHECKING:
    from nodeagent.proxy.engine import Engine
    from nodeagent.proxy.policies.handling import Handling, Way
    from nodeagent.proxy.tenants import Tenant
    from nodeagent.proxy.view import View


class State(enum.IntEnum):
    HEAD = 0
    BUSY = 1
    DISCARD = 2
    LINGER = 3
    RELAYING = 4
    CLOSED = 5


_HEAD, _BUSY, _DISCARD, _LINGER, _RELAYING, _CLOSED = State
_MAX_TURNS = 32
"""Pipelined requests answered here (denied ones, say) in a row before other connections get their turn."""
_MAX_DISCARD = 64 * 1024
"""A body of up to this size is read and thrown away to keep the connection; for a larger one it is closed."""


class Downstream:
    """One accepted connection of a pod towards an original destination."""

    __slots__ = (
        "_at_eof",
        "_buffer",
        "_counted",
        "_discarding",
        "_in_loop",
        "_started",
        "_wait",
        "_way",
        "_way_changes",
        "address",
        "caller",
        "caller_address",
        "cookie",
        "engine",
        "exchange",
        "moved",
        "opened",
        "port",
        "relayed",
        "requests",
        "state",
        "stream",
        "tenant",
        "unsent_before",
        "used",
        "view",
    )

    def __init__(self, engine: Engine, sock: socket.socket, tenant: Tenant, caller: Workload, view: View) -> None:
        self.engine = engine
        self.tenant = tenant
        self.cookie = tenant.cookie
        self.caller = caller
        self.caller_address = ""
        self.view = view
        self.address = ""  # what was dialled, canonical text
        self.port = 0
        self.state = _HEAD
        self.exchange: Exchange | None = None
        self.requests = 0
        self.opened = self.used = engine.tick
        self._buffer = b""
        self._counted = 0  # bytes of the buffer that are in the pod's budget
        self._wait: HeadWait | None = None
        self._way: Way | None = None  # of its last request under policies, as of so many changes
        self._way_changes = 0
        self.relayed: Relay | None = None
        self.moved = 0  # by the relay, when it was last looked at
        self.unsent_before = 0  # when the linger clock was last looked at
        self._started = 0.0
        self._discarding = 0
        self._at_eof = False
        self._in_loop = False
        high = engine.bounds.buffered_per_connection
        self.stream = Stream(engine.loop, tenant.lane, sock, self, tenant.budget, high)

    # ---- from the stream ----

    def data_received(self, data: bytes) -> None:
        state = self.state
        self.used = self.engine.tick
        if state == _HEAD:
            self._buffer = self._buffer + data if self._buffer else data
            self._serve()
        elif state == _BUSY:
            self._data_while_busy(data)
        elif state == _DISCARD:
            self._discard(data)

    def _data_while_busy(self, data: bytes) -> None:
        assert self.exchange is not None
        if not self.exchange.request_done:
            data = self.exchange.request_data(data)
        if not data:
            return
        if self.state == _BUSY:
            self.hold(data)
        elif self.state == _HEAD:  # those were the last bytes of a request that was answered already
            self._buffer += data
            self._serve()

    def eof_received(self) -> None:
        self._at_eof = True
        if self.state == _BUSY:
            assert self.exchange is not None
            if not self.exchange.request_done:
                self.exchange.client_gone()
        else:
            self.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self.exchange is not None:
            self.exchange.client_gone()
        else:
            self.drop()

    def write_failed(self, _error: OSError) -> None:
        self.connection_lost(None)

    def peer_gone(self) -> None:
        self.connection_lost(None)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.pause_response()

    def resume_writing(self) -> None:
        self.used = self.engine.tick
        if self.exchange is not None:
            self.exchange.resume_response()
        elif self.state == _HEAD:
            self._serve()
        elif self.state == _LINGER and self._at_eof:
            self.drop()

    # ---- requests ----

    def hold(self, data: bytes) -> None:
        """Pipelined bytes wait, and with them the rest: at most one read is held."""
        self._buffer += data
        self._count()
        self.stream.pause_reading()

    def _count(self) -> None:
        """Bring the pod's budget up to what is held here."""
        held = len(self._buffer)
        if held != self._counted:
            self.tenant.budget.add(held - self._counted)
            self._counted = held

    def listen(self) -> None:
        """Read on while a request is in flight: its body, or the client's end."""
        if not self._buffer and not self._at_eof:
            self.stream.resume_reading()

    def _serve(self) -> None:
        """Take requests off the buffer until one is in flight, none is whole, or the client takes no more answers.

        Not re-entered: answers that come at once would otherwise nest as deep as a client pipelines.
        """
        if self._in_loop:
            return
        self._in_loop = True
        turns = _MAX_TURNS
        try:
            while turns and self.state == _HEAD and self._buffer and not self.stream.backed_up and self._take_head():
                turns -= 1
        finally:
            self._in_loop = False
        self._count()
        if self.state != _HEAD:
            return
        if not turns:
            self.stream.pause_reading()
            self.engine.loop.call_soon(self._serve_on)
        elif self.stream.backed_up:
            self.stream.pause_reading()
        elif self._at_eof:
            self.close()
        else:
            self.stream.resume_reading()

    def _serve_on(self) -> None:
        if self.state == _HEAD:
            self._serve()

    def _take_head(self) -> bool:
        """Start one request; False when its head is not whole."""
        buffer = self._buffer
        start = 0
        if buffer[0] == 13:  # CR
            start = self._skip_empty_line(buffer)
            if start < 0:
                return False
        end = buffer.find(b"\r\n\r\n", start) + 4
        if end < 4 or end - start > self.engine.bounds.head_bytes:
            self._await_head(buffer)
            return False
        if self._wait is not None:
            self._stop_waiting()
        self._buffer = b""
        if end == len(buffer):
            self._request(buffer[start:] if start else buffer, b"")
        else:
            self._request(buffer[start:end], buffer[end:])
        return True

    def _skip_empty_line(self, buffer: bytes) -> int:
        """RFC 9112 2.2: one empty line before a request is ignored.  -1: wait for more, or refused."""
        if len(buffer) < 3 and b"\r\n".startswith(buffer):
            self._await_head(buffer)
            return -1
        if not buffer.startswith(b"\r\n") or buffer[2] in b"\r\n":
            self._refuse(REQUESTS["leading-bytes"])
            return -1
        return 2

    def _await_head(self, buffer: bytes) -> None:
        """Part of a head is held."""
        if self._wait is None:
            self._wait = HeadWait(self)
        try:
            self._wait.look(buffer)
        except Refused as error:
            self._refuse(error.refusal)

    def _stop_waiting(self) -> None:
        if self._wait is not None:
            self._wait.stop()
            self._wait = None

    def head_timed_out(self) -> None:
        self._refuse(REQUESTS["head-slow"])

    def _request(self, head: bytes, rest: bytes) -> None:
        engine = self.engine
        started = self._started = engine.now()
        self.used = engine.tick
        self.requests += 1
        view = self.view
        if view.changes != engine.changes:
            view = engine.renew(self)
        try:
            plan, judged = engine.requests.read(view, head)
        except Refused as error:
            self._refuse(error.refusal, len(head))
            return
        decision = view.judge.decide(self.caller, self.caller_address, judged, random())
        refusal = engine.tenants.refusal(self.tenant)
        if refusal is not None and not decision.status:
            self._answer(plan, refused(decision, refusal), len(head), rest)
            return
        if self.tenant.trial is not None and not (decision.status or decision.would):
            decision = self._tried(decision)
        if decision.treatment is not None:
            self._managed_request(plan, decision, decision.treatment, judged, head, rest)
            return
        if decision.status:
            self._answer(plan, decision, len(head), rest)
            return
        decision = self._with_room(decision)
        if decision.status:
            self._answer(plan, decision, len(head), rest)
            return
        kind = Exchange if decision.timeouts is None else TimedExchange
        self._exchange(kind(self, plan, decision, started, len(head)), plan, judged, rest)

    def _tried(self, decision: Decision) -> Decision:
        """What caps of the pod in DryRun would have done comes to nothing further, as what would have been denied."""
        policy = self.tenant.would_refuse(self)
        return replace(decision, would=((WOULD_OVERFLOW, policy),)) if policy else decision

    def _managed_request(
        self, plan: RequestPlan, decision: Decision, treatment: Treatment, judged: RequestHead, head: bytes, rest: bytes
    ) -> None:
        """What policies ask comes first: limits, the breaker, a dry run."""
        way = self._way
        if way is None or way.handling.treatment is not treatment or self._way_changes != self.engine.changes:
            way = self._way = self.engine.handlings.of(treatment).way(self.caller, self.caller_address)
            self._way_changes = self.engine.changes
        handling, gate, is_short = way
        if not is_short or decision.status or decision.would:
            self._managed_at_length(handling, plan, decision, judged, head, rest)
        elif gate is not None and (refused_by := gate.enter()) is not None:
            self._answer(plan, handling.refusal(decision, refused_by), len(head), rest)
        else:
            exchange = ManagedExchange(self, plan, decision, self._started, len(head), handling, judged, gate)
            self._exchange(exchange, plan, judged, rest)

    def _managed_at_length(
        self,
        handling: Handling,
        plan: RequestPlan,
        decision: Decision,
        judged: RequestHead,
        head: bytes,
        rest: bytes,
    ) -> None:
        passage = handling.enter(decision, self.caller, self.caller_address, judged)
        decision = passage.decision
        if handling.goes_on and not decision.status:
            size = len(head)
            exchange = ManagedExchange(self, plan, decision, self._started, size, handling, judged, passage=passage)
            self._exchange(exchange, plan, judged, rest)
            return
        passage.end()
        outcomes = passage.shadow.finish() if passage.shadow is not None else []
        if outcomes:
            decision = replace(decision, would=tuple(outcomes))
        decision = self._with_room(decision)
        if decision.status:
            self._answer(plan, decision, len(head), rest)
        else:
            kind = Exchange if decision.timeouts is None else TimedExchange
            self._exchange(kind(self, plan, decision, self._started, len(head)), plan, judged, rest)

    def _exchange(self, exchange: Exchange, plan: RequestPlan, judged: RequestHead, rest: bytes) -> None:
        self.state = _BUSY
        self.exchange = exchange
        if exchange.decision.mirrors:
            self.engine.mirrors.tap(exchange, self, plan, judged)
        exchange.start(rest)

    def _with_room(self, decision: Decision) -> Decision:
        """The same, to another endpoint of the backend if this one has no room; refused if none has."""
        endpoint, tenants = decision.endpoint, self.engine.tenants
        if endpoint is None or tenants.has_room(endpoint.address):
            return decision
        others = [one for one in self.view.alternatives(decision.backend) if tenants.has_room(one.address)]
        return replace(decision, endpoint=choice(others)) if others else refused(decision, SERVER_OVERLOADED)

    @property
    def is_waiting(self) -> bool:
        """Between requests: nothing of the next one has come."""
        return self.state == _HEAD and not self._buffer

    # ---- answers of our own ----

    def _answer(self, plan: RequestPlan, decision: Decision, size: int, rest: bytes) -> None:
        """Deny or fail a request by decision; the connection stays if its body can be skipped."""
        left = plan.length - len(rest)
        skippable = plan.body == Body.NONE or (
            plan.body == Body.LENGTH and left <= _MAX_DISCARD and not plan.expects_continue
        )
        keep = plan.keep_alive and skippable and not self.engine.draining and not self._at_eof
        if decision.location:
            data = redirection(decision, keep, plan.is_head, plan.minor)
        else:
            data = reply(
                decision.status, decision.reason, decision.detail, keep, plan.is_head, plan.minor, decision.fields
            )
        self.stream.write(data)
        taken = min(len(rest), plan.length)
        self.engine.record(self, plan, decision, decision.status, size + taken, len(data), self._started)
        if not keep:
            self.linger()
            return
        self._buffer = rest[taken:]
        if left > 0:
            self.state = _DISCARD
            self._discarding = left
            self.stream.resume_reading()

    def _discard(self, data: bytes) -> None:
        left = self._discarding
        self._discarding = max(0, left - len(data))
        if len(data) >= left:
            self.state = _HEAD
            self._buffer = data[left:]
            self._serve()

    def _refuse(self, refusal: Refusal, size: int = 0) -> None:
        """Answer a broken request and end: what follows it cannot be told apart from it."""
        self._stop_waiting()
        self._started = self._started if size else self.engine.now()
        self._buffer = b""
        data = reply(refusal.status, refusal.reason, refusal.detail, False, False, 1)
        self.stream.write(data)
        self.engine.record_refusal(self, refusal, size, len(data), self._started)
        self.linger()

    def linger(self) -> None:
        """FIN after the last answer, then read until the client's own: closing with input unread would reset it."""
        self._buffer = b""
        self._count()
        self.exchange = None
        self.state = _LINGER
        self.stream.write_eof()
        if not self._at_eof:
            self.stream.resume_reading()
        elif not self.stream.unsent:
            self.drop()
            return
        else:
            self.stream.tell_when_drained()
        self.unsent_before = self.stream.unsent
        self.engine.lingering.start(self, self.engine.now())

    # ---- from the exchange ----

    def finished(self, keep_alive: bool) -> None:
        """The response is complete."""
        self.exchange = None
        self.used = self.engine.tick
        if not keep_alive:
            self.linger()
            return
        self.state = _HEAD
        self.stream.read_bytes = READ_BYTES
        if self._buffer or self._at_eof or self.stream.backed_up:
            self._serve()
        else:
            self.stream.resume_reading()

    def aborted(self) -> None:
        """The response broke off: reset, so that it cannot be taken for complete."""
        self.exchange = None
        self.stream.abort()
        self._closed()

    def fail(self, refusal_status: int, reason: str, detail: str, keep_alive: bool, plan: RequestPlan) -> int:
        """Answer in the upstream's place; returns the size of the answer."""
        data = reply(refusal_status, reason, detail, keep_alive, plan.is_head, plan.minor)
        self.stream.write(data)
        return len(data)

    def relay(self, upstream: Stream, from_upstream: bytes, on_end: Callable[[int, int], None]) -> None:
        """Hand both sides over to a Relay."""
        self.state = _RELAYING
        self.exchange = None
        held, self._buffer = self._buffer, b""
        self._count()

        def ended(client_bytes: int, upstream_bytes: int) -> None:
            on_end(client_bytes, upstream_bytes)
            self._closed()

        self.relayed = Relay(self.stream, upstream, ended)
        self.relayed.start(held, from_upstream)
        if self._at_eof and not self.relayed.ended:
            upstream.write_eof()

    # ---- ends ----

    def close(self) -> None:
        """An end in good order, once the client has what was written."""
        if self.state == _LINGER or self.stream.unsent:
            if self.state != _LINGER:
                self.linger()
            elif not self.stream.unsent:
                self.drop()
            else:
                self.stream.tell_when_drained()
        else:
            self.drop()

    def drop(self) -> None:
        """Close at once; the client sees a reset if something is unsent."""
        if self.relayed is not None:
            self.relayed.finish(abort=True)
            return
        self.stream.discard()
        self._closed()

    def discard(self) -> None:
        """The worker stops."""
        if self.exchange is not None:
            self.exchange.client_gone()
        else:
            self.drop()

    def _closed(self) -> None:
        if self.state != _CLOSED:
            self._stop_waiting()
            self.state = _CLOSED
            self._buffer = b""
            self._count()
            self.engine.closed(self)
