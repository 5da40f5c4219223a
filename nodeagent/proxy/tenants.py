"""What each pod has of a worker, as client and as server, and whether it may have more.

A `Tenant` is a pod whose connections we accept: its lane on the loop, its connections, its requests in flight, the
bytes held for it.  A `Server` is the address of an endpoint: requests in flight to it, and the bytes that it does not
take.  Plain numbers on the worker's one thread; caps are this worker's part of the node's (`nodeagent.core.bounds`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from weakref import WeakValueDictionary

from nodeagent.core.bounds import Bounds, PodCaps, client_caps, server_caps
from nodeagent.core.model import Workload
from nodeagent.core.overload import CLIENT_OVERLOADED, OVERLOADED, POD_BUFFERS_FULL
from nodeagent.core.policy_refusals import PolicyRefusal
from nodeagent.core.traffic import PodLimits
from nodeagent.proxy.budgets import Budget
from nodeagent.proxy.lane import Lane

IDLE_SERVERS = 1024
"""Endpoints looked after at once, or twice those with a request: one more, and those without are let go."""
UNLIMITED = 1 << 62


class Tenant:
    """One pod as client."""

    __slots__ = (
        "budget",
        "connections",
        "cookie",
        "copies",
        "idle",
        "lane",
        "max_connections",
        "max_requests",
        "requests",
        "trial",
    )

    def __init__(self, cookie: int, lane: Lane, worker: Budget, caps: PodCaps) -> None:
        self.trial: Trial | None = None
        self.cookie = cookie
        self.lane = lane
        self.connections = 0
        self.requests = 0
        self.copies = 0  # of its requests, under way to mirrors
        self.idle = 0  # connections to endpoints, in the pool
        self.budget = Budget(caps.buffered, worker)
        self.max_connections = caps.connections
        self.max_requests = caps.requests

    def limit_to(self, caps: PodCaps) -> None:
        """What is over a lowered cap already ends in its own time."""
        self.max_connections = caps.connections
        self.max_requests = caps.requests
        self.budget.set_limit(caps.buffered)

    def try_out(self, policy: str, caps: PodCaps) -> None:
        """Caps of a policy in DryRun.  What is there already would be there under them, as under a lowered cap."""
        if self.trial is None:
            self.trial = Trial()
        self.trial.policy, self.trial.caps = policy, caps

    def connected(self, connection: object) -> None:
        """One more is counted in `connections`."""
        trial = self.trial
        if trial is not None and self.connections - len(trial.reset) > trial.caps.connections:
            trial.reset.add(connection)

    def disconnected(self, connection: object) -> None:
        """One less."""
        if self.trial is not None:
            self.trial.reset.discard(connection)

    def would_refuse(self, connection: object) -> str:
        """The policy in DryRun that a request on this connection would not have come past, or ""."""
        trial = self.trial
        if trial is None:
            return ""
        over = self.requests - trial.refused >= trial.caps.requests or self.budget.held > trial.caps.buffered
        return trial.policy if over or connection in trial.reset else ""


class Trial:
    """Caps that are only simulated.  `reset` are connections, and `refused` counts requests in flight, that there would
    not be under them: these take no place.
    """

    __slots__ = ("caps", "policy", "refused", "reset")

    policy: str
    caps: PodCaps

    def __init__(self) -> None:
        self.reset: set[object] = set()
        self.refused = 0


class Server(Budget):
    """One pod as server, and the bytes on their way to it."""

    __slots__ = ("__weakref__", "connections", "max_connections", "max_requests", "requests")

    def __init__(self, caps: PodCaps) -> None:
        super().__init__(caps.buffered)
        self.connections = 0  # relayed ones
        self.requests = 0
        self.max_connections = caps.connections
        self.max_requests = caps.requests

    def limit_to(self, caps: PodCaps) -> None:
        self.max_connections = caps.connections
        self.max_requests = caps.requests
        self.set_limit(caps.buffered)


class Tenants:
    """All of them on one worker."""

    def __init__(self, bounds: Bounds, make_lane: Callable[[], Lane], drop_lane: Callable[[Lane], None]) -> None:
        self.budget = Budget(bounds.buffered)
        self.requests = 0  # in flight, of all
        self.servers: dict[str, Server] = {}  # with requests, or had some since the last sweep
        self._bounds = bounds
        self._max_requests = bounds.requests
        self._make_lane = make_lane
        self._drop_lane = drop_lane
        self._sweep_at = IDLE_SERVERS
        self._windows_of_the_gone = 0
        self._clients: dict[int, Tenant] = {}
        self._client_limits: dict[int, PodLimits | None] = {}
        self._trial_limits: dict[int, PodLimits] = {}  # of policies in DryRun
        self._server_limits: dict[str, PodLimits | None] = {}
        self._closed_servers: set[str] = set()  # those that may have no request
        self._resting: WeakValueDictionary[str, Server] = WeakValueDictionary()  # kept by their idle connections

    def __iter__(self) -> Iterator[Tenant]:
        return iter(self._clients.values())

    # ---- clients ----

    def client(self, cookie: int) -> Tenant:
        """The pod with this cookie; made when it is new."""
        tenant = self._clients.get(cookie)
        if tenant is None:
            caps = client_caps(self._bounds, self._client_limits.get(cookie))
            tenant = self._clients[cookie] = Tenant(cookie, self._make_lane(), self.budget, caps)
            self._try_out(tenant)
        return tenant

    def set_limits(self, pods: Mapping[int, Workload]) -> None:
        """What the namespaces of this node's pods ask for; pods elsewhere have the usual caps as servers."""
        self._client_limits = {cookie: pod.limits for cookie, pod in pods.items() if pod.limits is not None}
        self._trial_limits = {c: pod.shadow_limits for c, pod in pods.items() if pod.shadow_limits is not None}
        for cookie, tenant in self._clients.items():
            tenant.limit_to(client_caps(self._bounds, self._client_limits.get(cookie)))
            self._try_out(tenant)
        limited = [pod for pod in pods.values() if pod.limits is not None]
        self._server_limits = {address: pod.limits for pod in limited for address in pod.addresses}
        caps = {address: server_caps(self._bounds, limits) for address, limits in self._server_limits.items()}
        self._closed_servers = {address for address, cap in caps.items() if cap.requests == 0}
        for table in (self.servers, self._resting):
            for address, server in list(table.items()):
                server.limit_to(server_caps(self._bounds, self._server_limits.get(address)))

    def _try_out(self, tenant: Tenant) -> None:
        limits = self._trial_limits.get(tenant.cookie)
        if limits is None:
            tenant.trial = None
        else:
            tenant.try_out(limits.policy, client_caps(self._bounds, limits))

    def forget_clients(self, living: Collection[int]) -> None:
        """Those whose pod is gone, and its listeners and connections with it."""
        for cookie, tenant in list(self._clients.items()):
            if cookie not in living and not tenant.connections and tenant.lane.empty:
                del self._clients[cookie]
                self._windows_of_the_gone += tenant.lane.share.behind
                self._drop_lane(tenant.lane)

    def close(self) -> None:
        """The worker stops: every connection is closed already."""
        for tenant in self._clients.values():
            self._drop_lane(tenant.lane)
        self._clients.clear()

    # ---- servers ----

    def server(self, address: str) -> Server:
        """The one at this address."""
        server = self.servers.get(address)
        if server is not None:
            return server
        server = self._resting.pop(address, None)
        if server is None:
            server = Server(server_caps(self._bounds, self._server_limits.get(address)))
        if len(self.servers) >= self._sweep_at:
            self.sweep()
        self.servers[address] = server
        return server

    def towards(self, tenant: Tenant, address: str) -> Budget:
        """For bytes on their way to or from an endpoint: of its client, and of the pod that serves."""
        return Budget(UNLIMITED, tenant.budget, self.server(address))

    def has_room(self, address: str) -> bool:
        """Asked for every request, and for every endpoint that it may go to instead."""
        server = self.servers.get(address)
        if server is None:
            return address not in self._closed_servers
        return server.requests < server.max_requests and not server.full

    def sweep(self) -> None:
        """Servers at rest live as long as connections to them do."""
        for address, server in list(self.servers.items()):
            if not server.requests and not server.connections:
                self._resting[address] = self.servers.pop(address)
        self._sweep_at = max(IDLE_SERVERS, 2 * len(self.servers))

    # ---- how full ----

    def gauges(self) -> dict[str, float]:
        """Each cap, and the pod that is closest to it; limits as they are without `limits` of a namespace."""
        clients, servers, bounds = list(self._clients.values()), list(self.servers.values()), self._bounds
        return {
            "connections_per_pod_max": max((one.connections for one in clients), default=0),
            "connections_per_pod_limit": bounds.connections_per_pod,
            "requests_in_flight": self.requests,
            "requests_in_flight_limit": bounds.requests,
            "requests_per_client_max": max((one.requests for one in clients), default=0),
            "requests_per_client_limit": bounds.requests_per_client,
            "requests_per_server_max": max((one.requests for one in servers), default=0),
            "requests_per_server_limit": bounds.requests_per_server,
            "buffered_bytes": self.budget.held,
            "buffered_bytes_peak": self.budget.peak,
            "buffered_bytes_limit": self.budget.limit,
            "buffered_bytes_per_client_max": max((one.budget.held for one in clients), default=0),
            "buffered_bytes_per_server_max": max((one.held for one in servers), default=0),
            "buffered_bytes_per_pod_limit": bounds.buffered_per_pod,
            "upstream_idle_per_pod_max": max((one.idle for one in clients), default=0),
            "windows_behind": self._windows_of_the_gone + sum(one.lane.share.behind for one in clients),
        }

    # ---- admission ----

    def refusal(self, tenant: Tenant) -> PolicyRefusal | None:
        """Why a request of `tenant` cannot be taken now.  Asked for every request."""
        if tenant.requests >= tenant.max_requests:
            return CLIENT_OVERLOADED
        if tenant.budget.full:
            return POD_BUFFERS_FULL
        if self.requests >= self._max_requests or self.budget.full:
            return OVERLOADED
        return None
