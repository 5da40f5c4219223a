"""Destinations as tests need them, in one line each."""

from __future__ import annotations

from nodeagent.core.model import (
    Action,
    Destination,
    Endpoint,
    EnforcementLevel,
    HttpOperation,
    Policy,
    PolicyRule,
    Protocol,
    Source,
)

EVERY_PATH = PolicyRule(sources=(), ports=(), http=(HttpOperation(methods=("GET",)),))


def service(name: str, address: str, *endpoints: tuple[str, int], port: int = 80, **fields: object) -> Destination:
    """A Service address with endpoints; rung 1 unless `fields` say otherwise."""
    members = tuple(Endpoint(a, p) for a, p in endpoints)
    settings: dict[str, object] = {"protocol": Protocol.OPAQUE, "is_frontend": True, "endpoints": members} | fields
    return Destination(name=f"shop/{name}:{port}", address=address, port=port, **settings)  # type: ignore[arg-type]


def routed(name: str, address: str, *endpoints: tuple[str, int], port: int = 80, **fields: object) -> Destination:
    """A Service address on rung 3: HTTP/1 with a route."""
    settings: dict[str, object] = {"protocol": Protocol.HTTP1, "has_producer_route": True} | fields
    return service(name, address, *endpoints, port=port, **settings)


def policy(name: str, action: Action, account: str) -> Policy:
    """A Network policy about one service account."""
    rule = PolicyRule(sources=(Source(service_accounts=(account,)),), ports=(), http=())
    return Policy(f"shop/{name}", action, EnforcementLevel.NETWORK, (rule,))


def http_policy(name: str) -> Policy:
    return Policy(f"shop/{name}", Action.DENY, EnforcementLevel.APPLICATION, (EVERY_PATH,))
