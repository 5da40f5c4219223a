"""Line 3: a namespace is enrolled and un-enrolled again and again while wrk runs in it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.acceptance.on_cluster import objects
from tests.acceptance.on_cluster.mesh import Mesh
from tests.acceptance.on_cluster.waiting import until
from tests.cluster.cluster import Cluster
from tests.testbed import manifests
from tests.testbed.manifests import Document

NAME = "cycles"
POD_COUNT = 4  # two that call, two that serve
# 8 connections that wait 40 ms between requests: their ports are not used up where each request has a new one.
DELAY = "function delay() return 40 end"
NGINX = """
daemon off; pid /tmp/nginx.pid; error_log stderr; worker_processes 1;
events {}
http {
    access_log off; keepalive_requests 1000000;
    client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
    uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
    server { listen 8080; location / { return 200 "ok"; } }
}
"""
SERVE = 'echo "$0" >/tmp/nginx.conf && exec nginx -c /tmp/nginx.conf'
# The port is written out: there is no /etc/services in the image.
LOAD = 'echo "$0" >/tmp/delay.lua && exec wrk -t1 -c8 -d1h -s /tmp/delay.lua "$@" http://served:80/'
ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")


@dataclass(frozen=True)
class Run:
    """What wrk printed: requests, and of them those that failed by socket errors and by status."""

    what: str
    requests: int
    socket_errors: int
    not_2xx: int

    def __str__(self) -> str:
        return f"{self.what}: {self.requests} requests, {self.socket_errors} resets or failed, {self.not_2xx} not 2xx"


@dataclass(frozen=True)
class Cycles:
    made: int
    runs: list[Run]
    proxied: int  # connections that went through the proxy meanwhile
    direct: int  # connections of the enrolled pods that the mesh saw go direct
    enrol_seconds: float  # the longest from label to enrolled
    leave_seconds: float


def _documents() -> list[Document]:
    serving = objects.pod(NAME, "served-1", "node1", ["bash", "-c", SERVE, NGINX])
    other = objects.pod(NAME, "served-2", "node2", ["bash", "-c", SERVE, NGINX])
    calling = [objects.client(NAME, f"caller-{number}", f"node{number}") for number in (1, 2)]
    services = [objects.service(NAME, name, app="served") for name in ("served", "all")]
    route = manifests.http_route(NAME, "served", "served", [{"backendRefs": [manifests.backend("all", 1)]}])
    return [*services, serving, other, *calling, route]


@contextmanager
def open_pods(cluster: Cluster) -> Iterator[None]:
    documents = _documents()
    objects.create_namespace(cluster, objects.namespace(NAME))
    try:
        objects.apply(cluster, *documents)
        objects.wait_pods(cluster, *documents)
        objects.wait_programmed(cluster, *documents)
        yield
    finally:
        cluster.kubectl("delete", "namespace", NAME, "--timeout=60s")


def run(mesh: Mesh, count: int) -> Cycles:
    before, enrolled = _connections(mesh), round(mesh.metric("pods_enrolled"))
    callers = [(f"caller-{number}", closing) for number in (1, 2) for closing in (False, True)]
    loads = [_load(mesh.cluster, caller, closing) for caller, closing in callers]
    times = [_cycle(mesh, enrolled) for _ in range(count)]
    assert all(load.poll() is None for _, load in loads), "wrk ended before the last cycle"
    for number in (1, 2):
        objects.run(mesh.cluster, NAME, f"caller-{number}", "pkill", "-INT", "-x", "wrk")  # it prints what it has
    runs = [_result(what, load) for what, load in loads]
    after = _connections(mesh)
    longest = max(one for one, _ in times), max(one for _, one in times)
    return Cycles(len(times), runs, after[0] - before[0], after[1] - before[1], *longest)


def _cycle(mesh: Mesh, others: int) -> tuple[float, float]:
    return _label(mesh, True, others + POD_COUNT), _label(mesh, False, others)


def _label(mesh: Mesh, enrolled: bool, pods: int) -> float:
    mesh.enrol(NAME, enrolled=enrolled)
    return until(lambda: round(mesh.metric("pods_enrolled")) == pods, 15, f"{pods} pods are enrolled")


def _connections(mesh: Mesh) -> tuple[int, int]:
    name, of = "tcp_connections_opened_total", {"source_workload_namespace": NAME}
    return round(mesh.metric(name, outcome="proxied", **of)), round(mesh.metric(name, outcome="direct", **of))


def _load(cluster: Cluster, pod: str, closing: bool) -> tuple[str, subprocess.Popen[str]]:
    options = ["-H", "Connection: close"] if closing else []
    inside = ["bash", "-c", LOAD, DELAY, *options]
    command = [str(cluster.kubectl_program), "-n", NAME, "exec", pod, "--", *inside]
    what = f"{pod}, {'a connection for each' if closing else 'kept connections'}"
    return what, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _result(what: str, load: subprocess.Popen[str]) -> Run:
    printed, _ = load.communicate(timeout=600)
    requests = re.search(r"(\d+) requests in", printed)
    assert requests, f"wrk of {what} said: {printed}"
    errors, statuses = ERRORS.search(printed), re.search(r"Non-2xx or 3xx responses: (\d+)", printed)
    failed = sum(map(int, errors.groups())) if errors else 0
    return Run(what, int(requests[1]), failed, int(statuses[1]) if statuses else 0)
