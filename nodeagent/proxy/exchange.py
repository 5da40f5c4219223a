"""One request and its response, between a Downstream and an Upstream.

The request is sent as soon as a connection is there; its body follows as it arrives.  The response is passed on
as it arrives.  Either may end first.  Everything that can go wrong ends in one of four ways:

    answered      nothing of a response was sent: 502 or 503, with a reason
    tried again   the connection was never made; or a reused one died without an answer, and the method is
                  idempotent (RFC 9110 9.2.2: doing it twice is doing it once)
    aborted       part of a response was sent: the client's connection is reset
    dropped       the client is gone
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from nodeagent.core.model import Decision, Endpoint
from nodeagent.core.overload import detail_of
from nodeagent.core.policy_refusals import PolicyRefusal
from nodeagent.core.refusals import RESPONSES, Refusal, Refused
from nodeagent.core.request_plan import RequestPlan
from nodeagent.core.retries import IDEMPOTENT
from nodeagent.proxy.budgets import READ_BYTES
from nodeagent.proxy.pool import Pool
from nodeagent.proxy.request_body import RequestBody
from nodeagent.proxy.response import Response
from nodeagent.proxy.stream import BULK_READ_BYTES, Bug
from nodeagent.proxy.upstream import Key, Upstream

if TYPE_CHECKING:
    from nodeagent.proxy.downstream import Downstream
    from nodeagent.proxy.tenants import Server, Trial

CONNECT_TRIES = 3
INTERNAL_ERROR = "internal-error"
KEPT_FREELY = 4 * 1024
"""Bytes of a request that may be kept for resending without being counted: of a head, as nearly all are."""


class Exchange:
    """Lives from the decision to forward until the response is complete."""

    __slots__ = (
        "_body",
        "_counted",
        "_down",
        "_over",
        "_plan",
        "_resend",
        "_resend_kept",
        "_response",
        "_response_size",
        "_reused",
        "_server",
        "_started",
        "_trial",
        "_tried",
        "_unsent",
        "_up",
        "decision",
    )

    group = ""  # connections are pooled per group

    def __init__(self, down: Downstream, plan: RequestPlan, decision: Decision, started: float, size: int) -> None:
        bounds = down.engine.bounds
        self._down = down
        self._plan = plan
        self.decision = decision
        self._started = started
        self._body = RequestBody(plan, bounds, size)
        changes = decision.changes
        self._response = Response(plan, bounds, changes.response if changes is not None else None)
        self._response_size = 0
        self._server: Server | None = None
        down.tenant.requests += 1
        down.engine.tenants.requests += 1
        self._trial: Trial | None = None
        if decision.would:
            self.not_under_trial()
        self._up: Upstream | None = None
        self._reused = False
        self._unsent = b""  # of the request, while there is no connection
        self._counted = 0  # of that, in the pod's budget beside `_resend_kept`
        self._resend: bytes | None = None  # the whole request, while it may be sent again
        self._resend_kept = 0  # bytes of that in the pod's budget, until the exchange is over
        self._tried: tuple[Endpoint, ...] = ()
        self._over = False

    def not_under_trial(self) -> None:
        """By a policy in DryRun there would be no such request: it takes no place of the caps that are tried out."""
        self._trial = self._down.tenant.trial
        if self._trial is not None:
            self._trial.refused += 1

    @property
    def request_done(self) -> bool:
        return self._body.done

    def tap(self, body: RequestBody) -> None:
        """Before it starts: one that keeps what it takes, for a mirror."""
        body.size = self._body.size
        self._body = body

    # ---- the request ----

    def start(self, rest: bytes) -> None:
        """Send the head with what has come of the body; pipelined bytes go back to the client's side."""
        plan, changes = self._plan, self.decision.changes
        data = plan.head() if changes is None else plan.changed_head(changes)
        down = self._down
        if rest and not self._body.done:
            try:
                body, rest = self._body.take(rest)
            except Refused as error:
                self._request_broken(error.refusal)
                return
            data += body
        if rest:
            down.hold(rest)
        if self._body.done and plan.method in IDEMPOTENT and len(data) <= down.engine.bounds.replay_bytes:
            self._resend = data
            if len(data) > KEPT_FREELY:
                self._resend_kept = len(data)
                down.tenant.budget.add(self._resend_kept)
        self._unsent = data
        self._begin()

    def _begin(self) -> None:
        """The first try."""
        endpoint = self.decision.endpoint
        assert endpoint is not None
        self._go(endpoint, reuse=True)

    def request_data(self, data: bytes) -> bytes:
        """More of the body; returns what belongs to the next request."""
        body = self._body
        try:
            out, rest = body.take(data)
        except Refused as error:
            self._request_broken(error.refusal)
            return b""
        self._pass_body_on(out)
        self._down.stream.read_bytes = BULK_READ_BYTES if body.left > BULK_READ_BYTES else READ_BYTES
        if body.done and self._response.done:
            self._finish()
        return rest

    def _pass_body_on(self, out: bytes) -> None:
        """Send it, or keep it until there is a connection."""
        if self._up is None or not self._up.connected:
            self._unsent += out
            self._count_unsent()
            self._down.stream.pause_reading()
        elif out:
            self._up.stream.write(out)

    def _request_broken(self, refusal: Refusal) -> None:
        """The body's framing is broken: the upstream must not take what it got for a whole request."""
        self._drop_upstream(abort=True)
        if self._response.plan is not None:
            self._abort("DPE", refusal.reason, refusal.detail)
            return
        self._over = True
        self._say(refusal.detail)
        down = self._down
        self._response_size += down.fail(refusal.status, refusal.reason, refusal.detail, False, self._plan)
        self._record(refusal.status, "DPE", refusal.reason)
        down.linger()

    # ---- finding a connection ----

    def _go(self, endpoint: Endpoint, reuse: bool) -> None:
        down = self._down
        pool = down.engine.pool
        key = (down.cookie, endpoint, self.group)
        self._tried += (endpoint,)
        self._occupy(endpoint.address)
        if reuse:
            upstream = pool.take(key)
            if upstream is not None:
                self._reused = True
                self._up = upstream
                upstream.user = self
                self._send(upstream)
                return
        self._reused = False
        self._count_unsent()
        if not self._body.done:
            down.stream.pause_reading()
        self._open(pool, key)

    def _occupy(self, address: str) -> None:
        """The pod at `address` has the request now, and who had it before has not."""
        tenants = self._down.engine.tenants
        server = tenants.servers.get(address) or tenants.server(address)
        if self._server is not None:
            self._server.requests -= 1
        self._server = server
        server.requests += 1

    def _open(self, pool: Pool, key: Key) -> None:
        self._up = pool.open(key, self)
        self._up.connect()

    def _count_unsent(self) -> None:
        """Beyond what is kept for resending: that is the whole request, so the same bytes."""
        unsent = len(self._unsent) if self._up is None or not self._up.connected else 0
        held = max(unsent - self._resend_kept, 0)
        if held != self._counted:
            self._down.tenant.budget.add(held - self._counted)
            self._counted = held

    def upstream_connected(self) -> None:
        assert self._up is not None
        self._send(self._up)

    def _send(self, upstream: Upstream) -> None:
        unsent, self._unsent = self._unsent, b""
        if self._counted:
            self._count_unsent()
        self._down.listen()
        upstream.stream.write(unsent)
        if self.decision.mirrors:
            self._body.forwarded()

    def upstream_failed(self, _error: OSError) -> None:
        """No connection to the endpoint: nothing was sent, so any other that serves now may be asked."""
        self._up = None
        down = self._down
        view = down.engine.view(down.address, down.port, http=True)
        room = down.engine.tenants.has_room
        others = view.alternatives(self.decision.backend)
        others = tuple(one for one in others if one not in self._tried and room(one.address))
        if others and len(self._tried) < CONNECT_TRIES:
            down.engine.stats.connect_retries += 1
            self._go(others[int(self._started * 1e6) % len(others)], reuse=True)
        else:
            self._cannot_connect()

    def _cannot_connect(self) -> None:
        endpoint = self._tried[-1]
        detail = f"cannot connect to {endpoint.address} port {endpoint.port} of {self.decision.backend}"
        self._answer(503, "upstream-connect-failed", detail, "UF")

    # ---- the response ----

    def upstream_data(self, data: bytes) -> None:
        response, down = self._response, self._down
        down.used = down.engine.tick
        was_done = response.done
        if was_done:
            self._unsolicited()
            return
        self._resend = None
        try:
            out = response.feed(data, self._body.done, down.engine.draining)
        except Refused as error:
            self._response_broken(error.refusal)
            return
        if response.left > BULK_READ_BYTES and self._up is not None:
            self._up.stream.read_bytes = BULK_READ_BYTES
        self._pass_on(out)

    def _pass_on(self, out: bytes) -> None:
        """What has come of the response goes to the client."""
        if out:
            self._response_size += len(out)
            self._down.stream.write(out)
        if self._response.done:
            self._complete()
        elif self._response.switched:
            self._switch()

    def _complete(self) -> None:
        """The response is whole; the request may not be."""
        if self._response.excess:
            self._down.engine.stats.upstream_unsolicited += 1
        if self._body.done or not self._response.reusable:
            self._finish()

    def _finish(self) -> None:
        """Both directions are over, or the rest of the request interests nobody."""
        if self._over:
            return
        self._over = True
        response, plan = self._response, self._response.plan
        upstream, self._up = self._up, None
        assert plan is not None
        assert upstream is not None
        if response.reusable and self._body.done:
            upstream.stream.resume_reading()
            upstream.release(plan.idle_seconds)
        else:
            upstream.discard()
        self._record(plan.status)
        self._down.finished(plan.client_keep_alive and self._body.done)

    def _switch(self) -> None:
        """101: from here on bytes both ways."""
        self._over = True
        upstream = self._up
        assert upstream is not None
        upstream.user = None

        def ended(client_bytes: int, upstream_bytes: int) -> None:
            self._body.size += client_bytes
            self._response_size += upstream_bytes
            upstream.end_lease()
            self._record(101)

        self._down.relay(upstream.stream, self._response.rest, ended)

    # ---- ends of the upstream ----

    def _unsolicited(self) -> None:
        """Bytes after a complete response, while the request is still being sent."""
        self._down.engine.stats.upstream_unsolicited += 1
        self._response.reusable = False
        self._finish()

    def upstream_ended(self, error: Exception | None) -> None:
        """EOF (None), a reset, or a bug of ours over what it said: the client may have any part of that."""
        response = self._response
        if isinstance(error, Bug):
            self._break()
        elif response.done:
            response.reusable = False
            self._finish()
        elif response.plan is None:
            self._ended_before_response()
        elif error is not None:
            self._response_broken(RESPONSES["upstream-truncated"])
        else:
            self._end_by_close()

    def _end_by_close(self) -> None:
        try:
            out = self._response.end()
        except Refused as error:
            self._response_broken(error.refusal)
            return
        self._response_size += len(out)
        self._down.stream.write(out)
        self._complete()

    def _ended_before_response(self) -> None:
        if self._response.held:
            self._response_broken(RESPONSES["upstream-truncated"])
        elif self._reused and self._resend is not None and not self._response.begun:
            self._replay(self._resend)
        else:
            self._answer(502, "upstream-closed", "the upstream closed the connection without an answer", "UC")

    def _replay(self, request: bytes) -> None:
        self._down.engine.stats.replays += 1
        self._drop_upstream()
        self._unsent, self._resend = request, None
        self._tried = ()
        assert self.decision.endpoint is not None
        self._go(self.decision.endpoint, reuse=False)

    def _response_broken(self, refusal: Refusal) -> None:
        self._down.engine.stats.broken_responses += 1
        flag = "UC" if refusal.reason == "upstream-truncated" else "UPE"
        if self._response.plan is None:
            self._answer(refusal.status, refusal.reason, refusal.detail, flag)
        else:
            self._abort(flag, refusal.reason, refusal.detail)

    def _drop_upstream(self, abort: bool = False) -> None:
        self._unsent = b""
        self._count_unsent()
        upstream, self._up = self._up, None
        if upstream is not None:
            upstream.abort() if abort else upstream.discard()

    def _answer(self, status: int, reason: str, detail: str, flag: str, keep: bool = True) -> None:
        """Nothing of a response was sent: say what happened."""
        if self._over:
            return
        self._over = True
        self._say(detail)
        self._drop_upstream(abort=not self._body.done)
        down = self._down
        keep = keep and self._plan.keep_alive and self._body.done and not down.engine.draining
        self._response_size += down.fail(status, reason, detail, keep, self._plan)
        self._record(status, flag, reason)
        down.finished(keep)

    def _abort(self, flag: str, reason: str, detail: str) -> None:
        if self._over:
            return
        self._over = True
        self._say(detail)
        self._drop_upstream(abort=True)
        self._record(self._response.plan.status if self._response.plan else 0, flag, reason)
        self._down.aborted()

    def _say(self, detail: str) -> None:
        """To who observes requests."""
        if self._down.engine.observing:
            self.decision = replace(self.decision, detail=detail)

    # ---- bugs ----

    def guarded(self, action: Callable[..., None], *args: object) -> None:
        """For what comes from a timer: a bug ends this exchange now, not once nothing has moved for too long."""
        try:
            action(*args)
        except Exception as error:  # noqa: BLE001 - reported, counted
            self._report(error)
            self._break()

    def _report(self, error: Exception) -> None:
        handler = self._down.engine.loop.call_exception_handler
        handler({"message": "a request met a bug", "exception": error})

    def _break(self) -> None:
        self._abort("", INTERNAL_ERROR, "the proxy met a bug of its own, which the agent's log describes")

    # ---- from the client's side ----

    def client_gone(self) -> None:
        """The client left before its response was complete."""
        if self._over:
            return
        self._over = True
        self._drop_upstream(abort=not self._body.done)
        self._record(self._response.plan.status if self._response.plan else 0, "DC", "client-gone")
        self._down.exchange = None
        self._down.drop()

    def stalled(self) -> None:
        """Nothing has moved for too long, in either direction."""
        detail = "neither request nor response went on for too long"
        if self._response.plan is None:
            self._answer(504, "stalled", detail, "SI")
        else:
            self._abort("SI", "stalled", detail)

    def shed(self, refusal: PolicyRefusal) -> None:
        """Its memory is needed: an answer if none has begun, and the connection ends."""
        if self._response.plan is None:
            self._answer(refusal.status, refusal.reason, detail_of(refusal), refusal.flag, keep=False)
        else:
            self._abort(refusal.flag, refusal.reason, detail_of(refusal))

    def pause_response(self) -> None:
        if self._up is not None and self._up.connected:
            self._up.stream.pause_reading()

    def resume_response(self) -> None:
        if self._up is not None and self._up.connected:
            self._up.stream.resume_reading()

    def pause_writing(self) -> None:
        """The upstream takes no more for now."""
        self._down.stream.pause_reading()

    def resume_writing(self) -> None:
        if not self._body.done:
            self._down.listen()

    def _record(self, status: int, flag: str = "", reason: str = "") -> None:
        """Once, whichever way the exchange ends."""
        down = self._down
        if self.decision.mirrors:
            self._body.ended()
        if self._resend_kept:
            down.tenant.budget.add(-self._resend_kept)
        down.tenant.requests -= 1
        down.engine.tenants.requests -= 1
        if self._trial is not None:
            self._trial.refused -= 1
        if self._server is not None:
            self._server.requests -= 1
        down.engine.record(
            down, self._plan, self.decision, status, self._body.size, self._response_size, self._started, flag, reason
        )
