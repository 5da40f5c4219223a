"""Copies of requests for mirrors (the RequestMirror filter): sent on the side, their answers thrown away.

A copy goes when the request itself goes and its body is whole, on a connection of its own.  Nothing of it reaches
the request: not its failure, not its slowness, not a body too large to be kept.  It is counted, and that is all.
Bounds: `mirrors` copies under way in a worker and `mirrors_per_pod` of one pod, each for `mirror_seconds`;
`mirror_request_bytes` of a body, which count in the pod's budget, and `mirror_response_bytes` of an answer.
"""

from __future__ import annotations

from random import random
from typing import TYPE_CHECKING

from nodeagent.core.framing import Body
from nodeagent.core.mirrors import Unsent, endpoint_of_copy
from nodeagent.core.model import Endpoint, RequestHead
from nodeagent.core.refusals import Refused
from nodeagent.core.request_plan import RequestPlan
from nodeagent.proxy.request_body import RequestBody
from nodeagent.proxy.response import Response
from nodeagent.proxy.timeouts import Timeouts
from nodeagent.proxy.upstream import Key, Upstream

if TYPE_CHECKING:
    from nodeagent.proxy.downstream import Downstream
    from nodeagent.proxy.engine import Engine
    from nodeagent.proxy.exchange import Exchange


class Mirrors:
    """The copies of one worker."""

    __slots__ = ("engine", "under_way")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.under_way: Timeouts[Copy] = Timeouts(engine.bounds.mirror_seconds)

    def __len__(self) -> int:
        return len(self.under_way)

    def tap(self, exchange: Exchange, down: Downstream, plan: RequestPlan, head: RequestHead) -> None:
        """Before a request whose rule has mirrors starts: see to it that what is drawn gets a copy."""
        try:
            self._tap(exchange, down, plan, head)
        except Exception as error:  # noqa: BLE001 - a fault in here is not one of the request
            self.engine.stats.mirror_skipped += len(exchange.decision.mirrors)
            self.engine.loop.call_exception_handler({"message": "a request cannot be mirrored", "exception": error})

    def _tap(self, exchange: Exchange, down: Downstream, plan: RequestPlan, head: RequestHead) -> None:
        endpoints = self._endpoints(exchange, down, head)
        if not endpoints:
            return
        if plan.body == Body.LENGTH and plan.length > self.engine.bounds.mirror_request_bytes:
            self.engine.stats.mirror_too_large += len(endpoints)
            return
        keys = [(down.cookie, endpoint, "") for endpoint in endpoints]
        exchange.tap(CopiedBody(self, plan, plan.copied_head(exchange.decision.changes), keys))

    def _endpoints(self, exchange: Exchange, down: Downstream, head: RequestHead) -> list[Endpoint]:
        found = []
        for mirror in exchange.decision.mirrors:
            where = endpoint_of_copy(
                down.view.destination, mirror, down.caller, down.caller_address, head, random(), self.engine.regex
            )
            if isinstance(where, Endpoint):
                found.append(where)
            elif where is Unsent.DENIED:
                self.engine.stats.mirror_denied += 1
            elif where is Unsent.NO_ENDPOINT:
                self.engine.stats.mirror_skipped += 1
        return found

    def send(self, keys: list[Key], plan: RequestPlan, request: bytes) -> None:
        """Soon: the request itself comes first, and a fault in here is not one of its exchange."""
        engine = self.engine
        for key in keys:
            if not self._has_room(key):
                engine.stats.mirror_skipped += 1
                continue
            copy = Copy(self, key, plan, request)
            self.under_way.start(copy, engine.now())
            engine.loop.call_soon(copy.start)

    def _has_room(self, key: Key) -> bool:
        tenants, bounds = self.engine.tenants, self.engine.bounds
        pod = tenants.client(key[0])
        fits = len(self) < bounds.mirrors and pod.copies < bounds.mirrors_per_pod and not pod.budget.exhausted
        return fits and tenants.has_room(key[1].address)

    def close(self) -> None:
        """The worker stops."""
        for copy in self.under_way.take_expired(float("inf"), len(self)):
            copy.timed_out()


class CopiedBody(RequestBody):
    """The body of a request that is mirrored; keeps what it takes until the copy can go."""

    __slots__ = ("_budget", "_held", "_is_forwarded", "_keys", "_mirrors", "_parts", "_plan")

    def __init__(self, mirrors: Mirrors, plan: RequestPlan, head: bytes, keys: list[Key]) -> None:
        super().__init__(plan, mirrors.engine.bounds, 0)
        self._mirrors = mirrors
        self._budget = mirrors.engine.tenants.client(keys[0][0]).budget
        self._plan = plan
        self._keys = keys  # none left: the copies are sent, or will never be
        self._parts = [head]
        self._held = 0
        self._is_forwarded = False

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        out, rest = super().take(data)
        if self._keys:
            self._keep(out)
        return out, rest

    def _keep(self, out: bytes) -> None:
        engine = self._mirrors.engine
        if self._held + len(out) > engine.bounds.mirror_request_bytes:
            engine.stats.mirror_too_large += len(self._keys)
            self._let_go()
            return
        self._parts.append(out)
        self._held += len(out)
        self._budget.add(len(out))
        self._send_if_whole()

    def forwarded(self) -> None:
        self._is_forwarded = True
        self._send_if_whole()

    def _send_if_whole(self) -> None:
        if self._keys and self.done and self._is_forwarded:
            keys, request = self._keys, b"".join(self._parts)
            self._let_go()
            self._mirrors.send(keys, self._plan, request)

    def ended(self) -> None:
        """The request was never sent, or it broke off."""
        self._mirrors.engine.stats.mirror_skipped += len(self._keys)
        self._let_go()

    def _let_go(self) -> None:
        self._keys, self._parts = [], []
        self._budget.add(-self._held)
        self._held = 0


class Copy:
    """One request to one mirror, from when it is due to the end of its answer."""

    __slots__ = ("_key", "_mirrors", "_over", "_pod", "_received", "_request", "_response", "_up")

    def __init__(self, mirrors: Mirrors, key: Key, plan: RequestPlan, request: bytes) -> None:
        self._mirrors = mirrors
        self._pod = mirrors.engine.tenants.client(key[0])
        self._key = key
        self._request = request  # while it is not sent
        self._response = Response(plan, mirrors.engine.bounds)
        self._received = 0
        self._up: Upstream | None = None
        self._over = False
        self._pod.copies += 1
        self._pod.budget.add(len(request))

    def start(self) -> None:
        if self._over:
            return
        pool = self._mirrors.engine.pool
        self._up = upstream = pool.take(self._key)
        if upstream is None:
            self._up = pool.open(self._key, self)
            self._up.connect()
        else:
            upstream.user = self
            self.upstream_connected()

    def upstream_connected(self) -> None:
        assert self._up is not None
        self._mirrors.engine.stats.mirrored += 1
        request = self._unsent()
        self._up.stream.write(request)

    def _unsent(self) -> bytes:
        """It is in the budget until it is taken."""
        request, self._request = self._request, b""
        self._pod.budget.add(-len(request))
        return request

    def upstream_failed(self, _error: OSError) -> None:
        self._up = None
        self._fail()

    def upstream_data(self, data: bytes) -> None:
        response = self._response
        self._received += len(data)
        try:
            response.feed(data, True, False)
        except Refused:
            self._fail()
            return
        if response.done:
            self._complete()
        elif response.switched or self._received > self._mirrors.engine.bounds.mirror_response_bytes:
            self._fail()

    def upstream_ended(self, error: Exception | None) -> None:
        try:
            self._response.end()
        except Refused:
            error = error or ConnectionError()
        if error is not None:
            self._fail()
        else:
            self._complete()

    def pause_writing(self) -> None:
        """It was written whole; what the mirror does not take is in the stream, and in its budget."""

    def resume_writing(self) -> None:
        """Nothing more is to be written."""

    def timed_out(self) -> None:
        self._fail()

    def _complete(self) -> None:
        upstream, plan = self._up, self._response.plan
        assert upstream is not None
        assert plan is not None
        self._up = None
        self._end()
        if self._response.reusable:
            upstream.release(plan.idle_seconds)
        else:
            upstream.discard()

    def _fail(self) -> None:
        upstream, self._up = self._up, None
        self._mirrors.engine.stats.mirror_failed += 1
        self._end()
        if upstream is not None:
            upstream.abort()

    def _end(self) -> None:
        self._over = True
        self._pod.copies -= 1
        self._unsent()
        self._mirrors.under_way.stop(self)
