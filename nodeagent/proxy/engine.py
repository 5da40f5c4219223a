"""Everything the connections of one worker share: configuration in force, pool, bounds, clocks, counters."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from nodeagent.core import canary
from nodeagent.core.addresses import family
from nodeagent.core.bounds import Bounds, watermark
from nodeagent.core.decide import DENIED
from nodeagent.core.dry_run import WOULD_DENY, WOULD_DENY_CONNECT
from nodeagent.core.ledger import Ledger
from nodeagent.core.matching import Regex
from nodeagent.core.model import Decision, Destination, Snapshot, Workload, Would
from nodeagent.core.overload import CLIENT_CONNECTIONS, detail_of
from nodeagent.core.refusals import Refusal
from nodeagent.core.request_plan import RequestPlan
from nodeagent.proxy import patience
from nodeagent.proxy.accounting import Accounting
from nodeagent.proxy.data_loop import DataLoop
from nodeagent.proxy.deadlines import DeadlineTable
from nodeagent.proxy.downstream import Downstream, State
from nodeagent.proxy.managed_exchange import ManagedExchange
from nodeagent.proxy.mirror import Copy, Mirrors
from nodeagent.proxy.policies.cluster import Cluster
from nodeagent.proxy.policies.handling import Handlings
from nodeagent.proxy.policies.prepayments import Prepayments
from nodeagent.proxy.pool import Pool
from nodeagent.proxy.relayed import RelayedConnection
from nodeagent.proxy.request_heads import RequestHeads
from nodeagent.proxy.shedding import Shedder
from nodeagent.proxy.stalls import Stalls
from nodeagent.proxy.stats import Stats
from nodeagent.proxy.stream import reset_on_close
from nodeagent.proxy.tenants import Tenant, Tenants
from nodeagent.proxy.timed_exchange import TimedExchange
from nodeagent.proxy.timeouts import Timeouts
from nodeagent.proxy.updates import EMPTY
from nodeagent.proxy.upstream import Upstream
from nodeagent.proxy.view import View, unknown_destination

TICK_SECONDS = 0.25
"""One timer for everything: heads, connects, lingering, idle connections, and the worker's heartbeat."""
IDLE_TICK_SECONDS = 0.5  # without a connection: a fourth of how old a beat may be (kernel/instance.py)
SWEEP_SECONDS = 5.0
AT_ONCE = 16
"""Things of a kind that are ended in one piece: closing one takes up to 0.1 ms."""
Item = TypeVar("Item")
_STATUS_TEXT = [str(status) for status in range(1000)]
_REFUSED = Decision(flag="DPE")


class SocketSource(Protocol):
    """Where upstream sockets come from: made in the caller pod's network namespace, non-blocking."""

    def take(self, cookie: int, family: int) -> socket.socket | None:
        """One that is at hand, or None."""

    def wait(self, cookie: int, family: int, ready: Callable[[socket.socket | OSError], None]) -> None:
        """Ask for one; `ready` gets it, or why there is none."""


class Engine:
    """One per worker; lives on one loop."""

    def __init__(  # noqa: PLR0913, PLR0917 - one of each thing that connections share
        self,
        loop: DataLoop,
        bounds: Bounds,
        sockets: SocketSource,
        accounting: Accounting,
        ledger: Ledger,
        regex: Regex,
        on_event: Callable[[dict[str, Any]], None] = lambda _event: None,
        on_tick: Callable[[float], None] = lambda _now: None,
        resident: Callable[[], int] = lambda: 0,
    ) -> None:
        """`resident()` = bytes of memory that the worker uses."""
        self.loop = loop
        self.bounds = bounds
        self.sockets = sockets
        self.accounting = accounting
        self.ledger = ledger
        self.handlings = Handlings(ledger, workers=bounds.workers)
        self.request_deadlines = DeadlineTable(loop, TimedExchange.request_timed_out)
        self.try_deadlines = DeadlineTable(loop, TimedExchange.try_timed_out)
        self.idle_deadlines = DeadlineTable(loop, ManagedExchange.look_if_idle)
        self.regex = regex
        self.on_event = on_event
        self._on_each_tick = on_tick
        self.now = time.monotonic
        self.tick = self.now()  # coarse clock: right to TICK_SECONDS while there are connections, free to read
        self.snapshot = EMPTY
        self.changes = 0  # snapshots applied so far
        self.pods: dict[int, str] = {}
        self.stats = Stats()
        self.stalls, self.busy = Stalls(self.tick), Stalls(self.tick)
        self.tenants = Tenants(bounds, loop.poller.lane, loop.poller.drop)
        self.budget = self.tenants.budget
        self.shedder = Shedder(self, watermark(bounds, resident()), resident)
        self.pool = Pool(self)
        self.mirrors = Mirrors(self)
        self.requests = RequestHeads(bounds.header_count)
        self.observing = False
        self.draining = False
        self.heads: Timeouts[Downstream] = Timeouts(bounds.head_seconds)
        self.lingering: Timeouts[Downstream] = Timeouts(bounds.linger_seconds)
        self.connecting: Timeouts[Upstream] = Timeouts(bounds.connect_seconds)
        self.connections: dict[Downstream | RelayedConnection, None] = {}
        self._views: dict[tuple[str, int], View] = {}
        self._older: dict[tuple[str, int], View] = {}  # not asked for since the last change
        self._timer: asyncio.TimerHandle | None = None
        self._next_sweep = 0.0

    # ---- configuration ----

    def apply(self, snapshot: Snapshot) -> None:
        """The next request of every connection is judged by this."""
        self.snapshot = snapshot
        self.changes += 1
        known, views = snapshot.destinations, {**self._older, **self._views}
        self._older = {at: view for at, view in views.items() if at in known or (at[0], 0) in known}
        self._views = {}
        self._each((self.handlings.prepayments,), Prepayments.close)
        self.handlings.forget()
        self.request_deadlines.forget_unused()
        self.try_deadlines.forget_unused()
        self.idle_deadlines.forget_unused()
        self.requests.forget()
        self._set_limits()

    def set_pods(self, pods: dict[int, str]) -> None:
        for cookie in self.pods.keys() - pods.keys():
            self.pool.forget_pod(cookie)
        self.pods = dict(pods)
        self._set_limits()

    def _set_limits(self) -> None:
        callers = ((cookie, self.caller(cookie)) for cookie in self.pods)
        self.tenants.set_limits({cookie: caller for cookie, caller in callers if caller is not None})

    def view(self, address: str, port: int, http: bool = False) -> View:
        """What applies to (address, port) now."""
        view = self._views.get((address, port))
        if view is None:
            destination = self.snapshot.destination(address, port) or unknown_destination(address, port, http)
            view = self._views[address, port] = self._view_of(destination, self._older.pop((address, port), None))
        return view

    def _view_of(self, destination: Destination, older: View | None) -> View:
        """What was prepared for a destination is used again as long as it does not change."""
        if older is not None and older.destination is destination:
            return older.under(self.changes)
        return View(self.changes, destination, self.regex)

    def renew(self, down: Downstream) -> View:
        """A connection's view and caller under a snapshot that came since its last request."""
        down.view = view = self.view(down.address, down.port, http=True)
        down.caller = self.caller(down.cookie) or down.caller
        return view

    def caller(self, cookie: int) -> Workload | None:
        return self.snapshot.workloads.get(self.pods.get(cookie, ""))

    # ---- connections ----

    def adopt(self, sock: socket.socket, cookie: int, peer: str, original: tuple[str, int] | None) -> None:
        """Serve an accepted connection.  `original` is what its pod dialled, None when the kernel does not know."""
        if original is None:
            self.stats.reset_no_original += 1
        elif (caller := self.caller(cookie)) is None:
            if self.pods.get(cookie) != canary.KEY:  # that one asks for nothing more
                self.stats.reset_unknown_pod += 1
        elif len(self.connections) >= self.bounds.connections:
            self.stats.reset_over_limit += 1
        elif (tenant := self.tenants.client(cookie)).connections >= tenant.max_connections:
            self._refuse_connection(caller, self.view(*original))
        else:
            self._serve(sock, tenant, caller, peer, original)
            return
        reset_on_close(sock)
        sock.close()

    def _refuse_connection(self, caller: Workload, view: View) -> None:
        """Of a pod that has as many as it may: counted as a request of which nothing is known."""
        self.stats.reset_over_pod_limit += 1
        limits = caller.limits
        policy = limits.policy if limits is not None and limits.max_connections is not None else ""
        _, reason, flag = CLIENT_CONNECTIONS
        names = (caller.workload, caller.namespace, view.name, view.namespace)
        self.accounting.count((*names, "", "", policy, "", _STATUS_TEXT[0], flag, reason), 0, 0, 0)
        if self.observing:
            decision = Decision(reason=reason, flag=flag, detail=detail_of(CLIENT_CONNECTIONS), policy=policy)
            nothing = {"method": "", "host": "", "path": ""}
            self.on_event({**_event(caller, view, decision, 0, 0, 0, 0), "verdict": "error", **nothing})

    def _serve(
        self, sock: socket.socket, tenant: Tenant, caller: Workload, peer: str, original: tuple[str, int]
    ) -> None:
        if not self.connections:
            self._end_idleness()
        self.stats.accepted += 1
        tenant.connections += 1
        view = self.view(*original)
        if view.is_http:
            down = Downstream(self, sock, tenant, caller, view)
            down.address, down.port = original
            down.caller_address = _address_of(caller, peer, original[0])
            self.connections[down] = None
            tenant.connected(down)
            down.stream.start()
            return
        self.stats.relayed += 1
        if original not in self.snapshot.destinations and (original[0], 0) not in self.snapshot.destinations:
            self.stats.unknown_destination += 1
        relayed = RelayedConnection(self, sock, tenant, view, original)
        self.connections[relayed] = None
        tenant.connected(relayed)
        relayed.start()

    def closed(self, connection: Downstream | RelayedConnection) -> None:
        del self.connections[connection]
        connection.tenant.connections -= 1
        connection.tenant.disconnected(connection)
        if isinstance(connection, Downstream):
            self.lingering.stop(connection)

    # ---- counting ----

    def record(  # noqa: PLR0913, PLR0917 - the hottest call: a value object to carry these costs as much as counting
        self,
        down: Downstream,
        plan: RequestPlan,
        decision: Decision,
        status: int,
        request_bytes: int,
        response_bytes: int,
        started: float,
        flag: str = "",
        reason: str = "",
    ) -> None:
        """Count one finished request."""
        caller = down.caller
        view = down.view
        duration_us = int((self.now() - started) * 1e6)
        self.stats.requests += 1
        if decision.audits:
            self.stats.audits += 1
        if decision.would:
            self._record_would(down, decision.would)
        self.accounting.count(
            (
                caller.workload,
                caller.namespace,
                view.name,
                view.namespace,
                decision.route,
                decision.rule,
                decision.policy,
                plan.method,
                _STATUS_TEXT[status],
                flag or decision.flag,
                reason or decision.reason,
            ),
            request_bytes,
            response_bytes,
            duration_us,
        )
        if self.observing:
            event = _event(caller, view, decision, status, request_bytes, response_bytes, duration_us)
            event["verdict"] = _verdict(decision, status, flag)
            path, _, _ = plan.target.decode("ascii", "replace").partition("?")
            event |= {"method": plan.method, "host": plan.host, "path": path}
            event |= {"flags": flag or decision.flag, "reason": reason or decision.reason}
            self.on_event(event)

    def _record_would(self, down: Downstream, would: Would) -> None:
        """Where connect() would have been refused, the kernel has counted the connection's first request with it."""
        for word, policy in would:
            if word != WOULD_DENY_CONNECT:
                self.record_dry_run(down, word, policy)
            elif down.requests > 1:
                self.record_dry_run(down, WOULD_DENY, policy)

    def record_dry_run(self, down: Downstream, word: str, policy: str) -> None:
        """Count what a policy in DryRun would have done, in a series of its own: few, whatever the requests are."""
        caller, view = down.caller, down.view
        self.stats.dry_run += 1
        names = (caller.workload, caller.namespace, view.name, view.namespace)
        self.accounting.note((*names, "", "", policy, "", "", "", word))

    def record_refusal(
        self, down: Downstream, refusal: Refusal, request_bytes: int, response_bytes: int, started: float
    ) -> None:
        """Count a request that was refused before it could be judged."""
        self.stats.refused_requests += 1
        plan = RequestPlan("", b"", 1)
        decision = replace(_REFUSED, detail=refusal.detail)
        self.record(down, plan, decision, refusal.status, request_bytes, response_bytes, started, "DPE", refusal.reason)

    def gauges(self) -> dict[str, float]:
        return {
            **self.tenants.gauges(),
            "memory_bytes": self.shedder.resident,
            "memory_high_bytes": self.shedder.limit,
            "connections": len(self.connections),
            "connections_limit": self.bounds.connections,
            "buffered_bytes_per_connection_limit": self.bounds.buffered_per_connection,
            "upstream_idle": self.pool.size,
            "upstream_idle_limit": self.bounds.upstream_idle_total,
            "clusters": len(self.handlings.clusters()),
            "ejected": sum(cluster.ejected for cluster in self.handlings.clusters()),
            "mirrors": len(self.mirrors),
            "mirrors_limit": self.bounds.mirrors,
            "slow_heads": len(self.heads),
            "series": self.accounting.used,
            "series_overflowed": self.accounting.overflowed,
            "draining": int(self.draining),
            "loop_stall_seconds": self.stalls.recent,
            "loop_stall_seconds_peak": self.stalls.longest,
            "loop_busy_seconds": self.busy.recent,
            "loop_busy_seconds_peak": self.busy.longest,
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row per open connection, for `get connections`."""
        return [
            {"source": self.pods.get(connection.cookie, ""), **connection_row(connection, self.tick)}
            for connection in self.connections
        ]

    def busy_pods(self) -> list[str]:
        """Keys of the pods that have connections."""
        return list({self.pods.get(connection.cookie, "") for connection in self.connections})

    # ---- time ----

    def start(self) -> None:
        self._on_tick()

    def stop(self) -> None:
        """Drop everything at once."""
        if self._timer is not None:
            self._timer.cancel()
        for connection in list(self.connections):
            connection.discard()
        self.mirrors.close()
        self.pool.close()
        self.tenants.close()

    def _on_tick(self) -> None:
        self._timer = self.loop.call_later(TICK_SECONDS if self.connections else IDLE_TICK_SECONDS, self._on_tick)
        now = self.tick = self.now()
        longest, busiest = self.loop.poller.take_longest()
        self.stalls.note(longest, now)
        self.busy.note(busiest, now)
        self._expire()
        self.shedder.tick()
        self._each(self.handlings.clusters(), self._tick_cluster)
        self._each((self.handlings.prepayments,), Prepayments.tick)
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_SECONDS
            self._sweep(now - self.bounds.idle_seconds, now - self.bounds.stall_seconds)
        self._on_each_tick(now)

    def _end_idleness(self) -> None:
        """A connection comes, and there was none: what it may take is counted from now."""
        self.tick = self.now()
        if self._timer is not None and self._timer.when() > self.tick + TICK_SECONDS:
            self._timer.cancel()
            self._timer = self.loop.call_later(TICK_SECONDS, self._on_tick)

    def _expire(self) -> None:
        """End what is out of time, a few at once: hundreds of one pod's may be due together, and others wait."""
        now = self.tick
        heads, connects = self.heads.take_expired(now, AT_ONCE), self.connecting.take_expired(now, AT_ONCE)
        lingering, copies = self.lingering.take_expired(now, AT_ONCE), self.mirrors.under_way.take_expired(now, AT_ONCE)
        self._each(heads, Downstream.head_timed_out)
        self._each(connects, Upstream.connect_timed_out)
        self._each(lingering, patience.linger_timed_out)
        self._each(copies, Copy.timed_out)
        more = self.pool.expire(now, AT_ONCE)
        if more or AT_ONCE in (len(heads), len(connects), len(lingering), len(copies)):
            self.loop.call_soon(self._expire)

    def _tick_cluster(self, cluster: Cluster) -> None:
        ejected, lost = cluster.tick()
        self.stats.ejections += ejected
        self.stats.outliers_lost += lost
        cluster.make_room(self.pool)

    def _each(self, items: Iterable[Item], action: Callable[[Item], None]) -> None:
        """A fault of one must not keep the others from their end."""
        for item in items:
            try:
                action(item)
            except Exception as error:  # noqa: BLE001 - reported, counted
                self.loop.call_exception_handler({"message": "a time-out met a bug", "exception": error})

    def _sweep(self, idle_before: float, stalled_before: float) -> None:
        def end_if_idle(connection: Downstream | RelayedConnection) -> None:
            patience.end_if_idle(connection, idle_before, stalled_before)

        self._each(list(self.connections), end_if_idle)
        self.tenants.sweep()
        self.tenants.forget_clients(self.pods)

    def close_idle(self, seconds: float) -> None:
        """While draining: connections without a request for so long."""
        before = self.tick - seconds
        waiting = (one for one in list(self.connections) if isinstance(one, Downstream) and one.state is State.HEAD)
        self._each(waiting, lambda down: patience.end_if_idle(down, before, 0.0))


def _address_of(caller: Workload, peer: str, dialled: str) -> str:
    """The caller's address as the destination would see it.

    A redirected socket shows a loopback source here unless the application bound it, so the pod's own address of
    the dialled family is meant.
    """
    if peer in caller.addresses:
        return peer
    wanted = family(dialled)
    return next((address for address in caller.addresses if family(address) == wanted), peer)


def _now_text() -> str:
    """RFC 3339 with milliseconds, UTC."""
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"


def _verdict(decision: Decision, status: int, flag: str) -> str:
    """ "denied" by a policy, "error" when no whole answer of an upstream came out of it, else "allowed"."""
    if decision.reason == DENIED:
        return "denied"
    return "error" if flag or decision.is_refusal or not status else "allowed"


def _event(
    caller: Workload,
    view: View,
    decision: Decision,
    status: int,
    request_bytes: int,
    response_bytes: int,
    duration_us: int,
) -> dict[str, Any]:
    endpoint = decision.endpoint
    return {
        "op": "event",
        "time": _now_text(),
        "source": caller.key,
        "source_workload": caller.workload,
        "source_namespace": caller.namespace,
        "destination": view.name,
        "status": status,
        "route": decision.route,
        "rule": decision.rule,
        "policy": decision.policy,
        "audits": list(decision.audits),
        "would": [f"{word} by {policy}" for word, policy in decision.would],
        "backend": decision.backend,
        "endpoint": f"{endpoint.address}:{endpoint.port}" if endpoint else "",
        "flags": decision.flag,
        "reason": decision.reason,
        "detail": decision.detail,
        "duration_us": duration_us,
        "request_bytes": request_bytes,
        "response_bytes": response_bytes,
    }


def connection_row(connection: Downstream | RelayedConnection, now: float) -> dict[str, Any]:
    peer = ""
    with contextlib.suppress(OSError):
        host, port = connection.stream.sock.getpeername()[:2]
        peer = f"{host}:{port}"
    return {
        "cookie": connection.cookie,
        "peer": peer,
        "original": f"{connection.address}:{connection.port}",
        "destination": connection.view.name,
        "protocol": "http/1.1" if isinstance(connection, Downstream) else "tcp",
        "state": connection.state.name.lower() if isinstance(connection, Downstream) else "relaying",
        "requests": connection.requests if isinstance(connection, Downstream) else 0,
        "age_seconds": round(now - connection.opened, 1),
        "unsent_bytes": connection.stream.unsent,
    }
