"""The testbed itself: makes a node, adds pods, runs commands in them, and takes everything down again."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.testbed import cgroups, manifests
from tests.testbed.agent import Agent
from tests.testbed.network import Network
from tests.testbed.shell import inside

BPFFS = Path("/sys/fs/bpf")
HERE = Path(__file__).resolve().parent
_counter = itertools.count()


@dataclass(frozen=True)
class Pod:
    """A namespace with one IPv4 and one IPv6 address, and what its manifest says."""

    namespace: str
    name: str
    ipv4: str
    ipv6: str
    netns: Path
    cgroup: Path
    document: manifests.Document

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


class Testbed:
    """One node.  `subnet` (0..255) keeps the addresses of two testbeds apart when both are looked at."""

    __test__ = False  # not a test class, whatever its name

    def __init__(self, subnet: int = 0) -> None:
        self.subnet = subnet
        self.tag = f"nat-{os.getpid()}-{next(_counter)}"  # the pid lets `sweep` tell whose owner is gone
        self.network = Network(self.tag, subnet)
        self.bpffs = BPFFS / self.tag
        self.pods: list[Pod] = []
        self.agents: list[Agent] = []
        self._started: list[subprocess.Popen[Any]] = []
        self._undo = ExitStack()

    # -- life -------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def _open(self) -> None:
        if os.geteuid() != 0:
            raise PermissionError("the testbed makes network namespaces and cgroups: run it as root")
        self.home = Path(tempfile.mkdtemp(prefix=f"{self.tag}-"))
        self._undo.callback(shutil.rmtree, self.home)
        self.manifests = manifests.Manifests(self.home / "manifests")
        self.manifests.path.mkdir()
        self._undo.callback(self._remove_pins)
        self.cgroup = cgroups.make(self.tag)
        self._undo.callback(cgroups.remove, self.cgroup)
        self._undo.callback(self.network.close)
        self.network.open()
        self._undo.callback(self._end_processes)

    def _end_processes(self) -> None:
        for process in self._started:
            process.kill()  # one that was only just started is not in the cgroup yet
        cgroups.kill(self.cgroup)
        for process in [*self._started, *(agent.process for agent in self.agents if agent.process)]:
            process.wait()

    def _remove_pins(self) -> None:
        if self.bpffs.exists():
            shutil.rmtree(self.bpffs)

    # -- pods -------------------------------------------------------------------------------------
    def add_pod(self, namespace: str, name: str, **fields: Any) -> Pod:
        """A new pod; `fields` go to its manifest (service_account, labels, workload, ports)."""
        host = len(self.pods) + 2
        netns = self.network.add_pod(f"{namespace}-{name}", host)
        cgroup = self.cgroup / f"pod-{namespace}-{name}"
        cgroup.mkdir()
        ipv4, ipv6 = self.network.ipv4(host), self.network.ipv6(host)
        document = manifests.pod(namespace, name, [ipv4, ipv6], netns, **fields)
        pod = Pod(namespace, name, ipv4, ipv6, netns, cgroup, document)
        self.pods.append(pod)
        return pod

    def pod_documents(self) -> list[manifests.Document]:
        return [pod.document for pod in self.pods]

    def vip(self, number: int) -> str:
        """The cluster IP number 1..254 of this node's range: an address that no device has."""
        return f"198.19.{self.subnet}.{number}"

    def vip6(self, number: int) -> str:
        return f"fd00:198:18:ff{self.subnet:02x}::{number:x}"

    # -- processes --------------------------------------------------------------------------------
    def popen(self, pod: Pod, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a command in the pod; it ends with the testbed at the latest."""
        process = subprocess.Popen(inside(pod.cgroup, pod.netns, argv), start_new_session=True, **options)
        self._started.append(process)
        return process

    def run(self, pod: Pod, argv: Sequence[str], *, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Runs a command in the pod to its end, with its output as text; the exit code is the caller's to judge."""
        return subprocess.run(
            inside(pod.cgroup, pod.netns, argv), capture_output=True, text=True, timeout=timeout, check=False
        )

    def serve(self, pod: Pod, port: int = 8080, *options: str, seconds: float = 10.0) -> subprocess.Popen[bytes]:
        """Starts the echo server (see echo.py) in the pod and waits until it listens."""
        argv = [sys.executable, "-S", str(HERE / "echo.py"), "--port", str(port)]
        argv += ["--name", pod.name, "--namespace", pod.namespace, *options]
        process = self.popen(pod, argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self.wait_listening(pod, port, seconds)
        return process

    def wait_listening(self, pod: Pod, port: int, seconds: float = 10.0) -> None:
        """Waits until some process listens on that TCP port in the pod; TimeoutError after `seconds`."""
        argv = ["nsenter", f"--net={pod.netns}", "ss", "-Hltn", f"sport = :{port}"]
        deadline = time.monotonic() + seconds
        while not subprocess.run(argv, capture_output=True, check=True).stdout:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on port {port} in pod {pod.key} after {seconds} s")
            time.sleep(0.01)

    # -- agent ------------------------------------------------------------------------------------
    def agent(self, *options: str) -> Agent:
        """An agent of this node, not started; extra command line options as given."""
        agent = Agent(self.cgroup, self.network.node_path, self.manifests.path, self.bpffs, self.home, options)
        self.agents.append(agent)
        return agent

    def start_agent(self, *options: str, workers: int = 1) -> Agent:
        """An agent of this node, started and ready."""
        return self.agent("--workers", str(workers), *options).start()
