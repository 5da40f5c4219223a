"""One Envoy with its default settings for two tenants, as a shared node proxy: a listener and a cluster each."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from bench import envoy
from tests.acceptance.tenants import on_own_processor
from tests.testbed import Pod, Testbed
from tests.testbed.caps import MemoryCap

FIRST, SECOND = 10001, 10002


def _connection_manager(name: str) -> dict[str, Any]:
    action = {"cluster": name, "timeout": "0s"}
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": action}]}]
    router = {"@type": f"{envoy.TYPES}.http.router.v3.Router"}
    config = {
        "@type": f"{envoy.TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _listener(name: str, port: int) -> dict[str, Any]:
    chain = {"filters": [_connection_manager(name)]}
    return {"name": name, "address": _socket("0.0.0.0", port), "filter_chains": [chain]}


def _cluster(name: str, address: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _socket(address, port)}}
    load = {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": load}


def start(bed: Testbed, proxy: Pod, servers: tuple[Pod, Pod], port: int, memory: MemoryCap) -> subprocess.Popen[bytes]:
    """In the pod `proxy`: FIRST leads to the first server's `port`, SECOND to the second's; one worker thread."""
    listeners = [_listener("first", FIRST), _listener("second", SECOND)]
    clusters = [_cluster(name, pod.ipv4, port) for name, pod in zip(("first", "second"), servers, strict=True)]
    config = Path(bed.home) / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": listeners, "clusters": clusters}}))
    argv = [envoy.binary(), "-c", str(config), "--concurrency", "1", "-l", "error", "--disable-hot-restart"]
    process: subprocess.Popen[bytes] = bed.popen(
        proxy,
        memory.run(on_own_processor(argv)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    bed.wait_listening(proxy, FIRST)
    bed.wait_listening(proxy, SECOND)
    return process
