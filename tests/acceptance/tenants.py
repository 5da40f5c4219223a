"""Two tenants on one worker, and what each of them meets: the stand of acceptance 6 and 7.

payments: `till` calls `bank` (VIP 1) at a steady rate, whatever became of the last call (the victim)
reports:  `batch` calls `archive` (VIP 2), which reads nothing, and `shelf` (VIP 3), which answers
out:      `outsider` and `proxy` are not in the mesh

What is to be seen is what the worker does with its time, not who gets a processor.  So the worker (or Envoy) has one
for itself, in every kind of run alike, and everybody else the other; on that, the victim and what it calls run at
real-time priority (SCHED_FIFO), and the load of the other tenant is capped.  The worker itself does not: the kernel
takes one that is busy all the time off its processor for 50 ms of each second (sched_rt_runtime_us).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodeagent.core.bounds import MIB
from tests.acceptance.shop import HERE
from tests.peers import build
from tests.testbed import Agent, Pod, Testbed, manifests
from tests.testbed.caps import CpuCap, MemoryCap

PORT = 8080
SHELF_PORT = 8081
BANK, ARCHIVE, SHELF = 1, 2, 3  # VIPs
PRIORITY = 5
PROXY_PROCESSOR = 1
OTHERS_PROCESSORS = {0}
NICE = -20

NGINX = """\
worker_processes 1; daemon off; pid {home}/{name}.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_timeout 600s; keepalive_requests 100000000; large_client_header_buffers 8 16k;
  client_body_temp_path {home}/{name}-body; proxy_temp_path {home}/{name}-p; fastcgi_temp_path {home}/{name}-f;
  uwsgi_temp_path {home}/{name}-u; scgi_temp_path {home}/{name}-s;
  server {{ listen {port} backlog=4096; location / {{ return 200 "ok"; }} }}
}}
"""


@dataclass
class Node:
    bed: Testbed
    till: Pod
    bank: Pod
    batch: Pod
    archive: Pod
    outsider: Pod
    proxy: Pod
    agent: Agent
    memory: MemoryCap | None
    cpu: CpuCap

    def victim(self, address: str, port: int, rate: int, seconds: int) -> dict[str, Any]:
        """What load says of its calls."""
        argv = ["-url", f"http://{address}:{port}/", "-rate", str(rate), "-for", f"{seconds}s"]
        done = self.bed.run(self.till, real_time([str(build("load")), *argv]), timeout=seconds + 30)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def load(self, pod: Pod, address: str, port: int, *options: str) -> subprocess.Popen[str]:
        """The other tenant's, with a cap on what it may take of the processors."""
        argv = [str(build("load")), "-url", f"http://{address}:{port}/", *options]
        process: subprocess.Popen[str] = self.bed.popen(pod, self.cpu.run(argv), stdout=subprocess.PIPE, text=True)
        return process

    def worker_stats(self) -> dict[str, Any]:
        status = json.loads(self.agent.admin("/v1/status")[1])
        [worker] = status["workers"]
        stats: dict[str, Any] = worker["stats"]
        return stats


def real_time(argv: list[str]) -> list[str]:
    return ["chrt", "--fifo", str(PRIORITY), *argv]


def on_own_processor(argv: list[str]) -> list[str]:
    return ["taskset", "--cpu-list", str(PROXY_PROCESSOR), "nice", f"--adjustment={NICE}", *argv]


@contextmanager
def processors_shared_out() -> Iterator[None]:
    """What is started meanwhile leaves the proxy's processor alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, OTHERS_PROCESSORS)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def open_node(share: float, memory: int | None = None) -> Iterator[Node]:
    """Everything running.  `share` of a processor is for the other tenant's load; with `memory`, that many bytes are
    for the worker and the broker, and as many for their TCP buffers."""
    with ExitStack() as stack:
        stack.enter_context(processors_shared_out())
        bed = stack.enter_context(Testbed())
        till, bank = bed.add_pod("payments", "till", workload="till"), bed.add_pod("payments", "bank", workload="bank")
        batch = bed.add_pod("reports", "batch", workload="batch")
        archive = bed.add_pod("reports", "archive", workload="archive")
        outsider, proxy = bed.add_pod("out", "outsider"), bed.add_pod("out", "proxy")
        bed.popen(bank, real_time(_nginx(bed, "bank", PORT)))
        bed.popen(archive, _nginx(bed, "shelf", SHELF_PORT))
        bed.popen(archive, [sys.executable, "-S", str(HERE / "stalled.py"), str(PORT)])
        for pod, port in ((bank, PORT), (archive, PORT), (archive, SHELF_PORT)):
            bed.wait_listening(pod, port)
        _write(bed, bank, archive)
        cap = stack.enter_context(MemoryCap(f"{bed.tag}-worker", memory)) if memory else None
        cpu = stack.enter_context(CpuCap(f"{bed.tag}-load", share))
        options = ("--memory", str(memory // MIB)) if memory else ()
        agent = bed.agent("--workers", "1", *options).start()
        stack.callback(agent.kill)  # before the cgroups go
        if cap is not None:
            _renew_data_plane(agent, cap)
        worker = data_plane(agent)["worker"]
        os.sched_setaffinity(worker, {PROXY_PROCESSOR})
        os.setpriority(os.PRIO_PROCESS, worker, NICE)  # the kernel's own threads are there as well
        yield Node(bed, till, bank, batch, archive, outsider, proxy, agent, cap, cpu)


def _nginx(bed: Testbed, name: str, port: int) -> list[str]:
    config = Path(bed.home) / f"{name}.conf"
    config.write_text(NGINX.format(home=bed.home, name=name, port=port), encoding="utf-8")
    return ["nginx", "-c", str(config)]


def _write(bed: Testbed, bank: Pod, archive: Pod) -> None:
    spaces = [manifests.namespace(name, enrolled=name != "out") for name in ("payments", "reports", "out")]
    bed.manifests.write("00-namespaces.yaml", *spaces)
    bed.manifests.write("10-pods.yaml", *bed.pod_documents())
    services = (
        (BANK, "payments", "bank", bank, PORT),
        (ARCHIVE, "reports", "archive", archive, PORT),
        (SHELF, "reports", "shelf", archive, SHELF_PORT),
    )
    for number, space, name, pod, port in services:
        route = manifests.http_route(space, name, name, [{"backendRefs": [manifests.backend(name, 1)]}])
        service = manifests.service(space, name, [bed.vip(number)], target_port=port)
        endpoints = manifests.endpoint_slice(space, name, [pod.ipv4], port=port)
        bed.manifests.write(f"2{number}-{name}.yaml", service, endpoints, route)


def _renew_data_plane(agent: Agent, memory: MemoryCap) -> None:
    """A broker and a worker that were born in the cgroup, so that all they have is charged there."""
    assert agent.process is not None
    old = data_plane(agent)
    memory.add(agent.process.pid)
    os.kill(old["broker"], signal.SIGKILL)  # its workers go with it
    deadline = time.monotonic() + 20
    while (new := data_plane(agent)).keys() != old.keys() or set(new.values()) & set(old.values()):
        assert time.monotonic() < deadline, (old, new)
        time.sleep(0.1)
    memory.release(agent.process.pid)
    agent.wait_ready()
    assert set(map(int, memory.read("cgroup.procs").split())) == set(new.values())


def data_plane(agent: Agent) -> dict[str, int]:
    """Pids of the worker and the broker."""
    found: dict[str, int] = {}
    for pid in agent.pids():
        with contextlib.suppress(FileNotFoundError):  # it has ended
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            found |= {name: pid for name in ("worker", "broker") if f"nodeagent.proxy.{name}".encode() in line}
    return found
