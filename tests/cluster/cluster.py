"""The cluster: a control plane and nodes, brought up together and taken down together."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import addresses, builds, hierarchies, images, paths, progress
from tests.cluster.box import NETNS, Box
from tests.cluster.certificates import Authority
from tests.cluster.control import ControlPlane
from tests.cluster.node import Node
from tests.leftovers import CLUSTER_PREFIX
from tests.testbed.shell import CommandError, run

DEFAULT_TAG = CLUSTER_PREFIX
READY_SECONDS = 60
PROGRAMS = ("etcd", "containerd", "ctr", "runc", "openssl", "nft", "conntrack", "mmdebstrap", "buildah")


class ClusterError(RuntimeError):
    """The cluster is not in the state that was asked for; the message says what to do."""


class Stopwatch:
    """Seconds from its making until each thing noted."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.times: dict[str, float] = {}

    def note(self, what: str) -> None:
        self.times[what] = time.monotonic() - self._began


class Cluster:
    """`tag` begins the name of everything the cluster has, so that two can live on one machine (CLUSTER=name)."""

    def __init__(self, tag: str = DEFAULT_TAG) -> None:
        self.tag = tag
        self.directory = paths.run_directory(tag)
        keys = Authority(self.directory / "keys")
        self.control = ControlPlane(self.box("control"), keys, self.directory / "kubeconfigs")
        self._times = self.directory / "times.json"

    @property
    def kubeconfig(self) -> Path:
        """All rights.  The API server answers in the network namespace TAG-control only."""
        return self.control.kubeconfig("admin")

    @property
    def kubectl_program(self) -> Path:
        """kubectl as a script that goes where the API server can be reached."""
        return self.directory / "kubectl"

    @property
    def nodes(self) -> list[Node]:
        """The nodes that have been made."""
        found = sorted(self.directory.glob("node*"))
        return [self.node(int(path.name.removeprefix("node"))) for path in found]

    def node(self, number: int) -> Node:
        return Node(number, self.box(f"node{number}"), self.control)

    def box(self, host: str) -> Box:
        """The machine with that host name: "control", "node1", ..."""
        return Box(f"{self.tag}-{host}", host, self.directory / host)

    @property
    def times(self) -> dict[str, float]:
        """Seconds from the start of `up`, builds not counted, until what the key says."""
        measured: dict[str, float] = json.loads(self._times.read_text(encoding="utf-8"))
        return measured

    def is_up(self) -> bool:
        """Whether the API server answers."""
        return bool(hierarchies.processes(self.control.box.name)) and self.control.answers()

    def up(self, count: int) -> None:
        """Brings up a control plane and `count` nodes, with DNS; builds first what is not in the cache."""
        _check_programs()
        if not re.fullmatch(rf"{CLUSTER_PREFIX}[a-z0-9]{{0,12}}", self.tag):
            raise ClusterError(f"{self.tag}: name a cluster {CLUSTER_PREFIX}, then at most 12 of a-z and 0-9")
        if self.directory.exists():
            raise ClusterError(f"there is a cluster in {self.directory} already: make cluster-down, or use it")
        if not 1 <= count <= addresses.MOST_NODES:
            raise ClusterError(f"{count} nodes: addresses are laid out for 1 to {addresses.MOST_NODES}")
        builds.build("kube")
        archives = [*images.small(), images.tools()]
        watch = Stopwatch()
        with ThreadPoolExecutor() as pool:
            self._open(count)
            loads = [pool.submit(self._prepare, node, archives) for node in self.nodes]
            self._start(watch, loads)
        self._apply_dns()
        watch.note("DNS ready")
        self._times.write_text(json.dumps(watch.times), encoding="utf-8")
        for what, seconds in watch.times.items():
            progress.say(f"{what} after {seconds:.1f} s")

    def down(self) -> None:
        """Ends the cluster and removes what it had, also one that came up half or was killed."""
        boxes = [self.control.box, *(node.box for node in self.nodes)]
        with ThreadPoolExecutor() as pool:
            for closed in [pool.submit(box.close) for box in boxes]:
                closed.result()
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints; CommandError with its message if it fails."""
        return run([str(self.kubectl_program), *arguments], stdin)

    def load(self, archive: Path) -> None:
        """Makes the images of a docker or OCI archive known on every node."""
        with progress.step(f"loading {archive.name} on {len(self.nodes)} nodes"), ThreadPoolExecutor() as pool:
            _results(pool.submit(node.load, archive) for node in self.nodes)

    def _open(self, count: int) -> None:
        self.directory.mkdir(parents=True)
        self.control.prepare()
        self.control.open()
        for number in range(1, count + 1):
            self.node(number).open()
        self._write_kubectl()

    def _prepare(self, node: Node, archives: list[Path]) -> None:
        node.start_containerd()
        for archive in archives:
            node.load(archive)

    def _start(self, watch: Stopwatch, loads: list[Future[None]]) -> None:
        nodes = self.nodes
        with progress.step("starting the control plane"):
            self.control.start()
        with progress.step(f"starting {len(nodes)} nodes"):
            for node in nodes:
                node.start_kubelet()
                node.start_proxy()
            self._wait(*(f"node/{node.name}" for node in nodes), what="Ready")
        watch.note("nodes Ready")
        with progress.step("loading images"):
            _results(loads)
        watch.note("images loaded")

    def _wait(self, *objects: str, what: str) -> None:
        try:
            for name in objects:  # of several, kubectl gives up at the first that is not there
                self.kubectl("wait", "--for=create", name, f"--timeout={READY_SECONDS}s")
            self.kubectl("wait", f"--for=condition={what}", *objects, f"--timeout={READY_SECONDS}s")
        except CommandError as problem:
            logs = self.directory / "node*" / "log"
            raise ClusterError(f"{' '.join(objects)} did not become {what}; look into {logs}. {problem}") from None

    def _apply_dns(self) -> None:
        with progress.step("starting DNS"):
            self.kubectl("wait", "--for=create", "--namespace=default", "serviceaccount/default", "--timeout=30s")
            self.kubectl("apply", "-f", str(paths.HERE / "manifests" / "coredns.yaml"))
            self.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=60s")

    def _write_kubectl(self) -> None:
        enter = f"nsenter --net={NETNS / self.control.box.name}"
        program = builds.build("kube").with_name("kubectl")
        script = f'#!/bin/sh\nexec {enter} {program} --kubeconfig={self.kubeconfig} "$@"\n'
        self.kubectl_program.write_text(script, encoding="utf-8")
        self.kubectl_program.chmod(0o755)


def _results(futures: Iterable[Future[None]]) -> None:
    """Waits for all, then raises the first failure."""
    waited = list(futures)
    for future in waited:
        future.exception()
    for future in waited:
        future.result()


def _check_programs() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise ClusterError(f"missing programs: {', '.join(missing)}. Install them with: hack/setup.sh cluster")


def of_this_process() -> Cluster:
    """A cluster for one test.  Its name carries the pid, by which `orphans` knows whose owner is gone."""
    return Cluster(f"{DEFAULT_TAG}{os.getpid()}")


@contextmanager
def for_tests(nodes: int) -> Iterator[Cluster]:
    """The cluster of a test run: one that is up is used and stays up; otherwise one is made, and taken down again."""
    cluster = Cluster(os.environ.get("CLUSTER") or DEFAULT_TAG)
    if cluster.is_up() and len(cluster.nodes) >= nodes:
        yield cluster
        return
    try:
        cluster.down()  # one that is half there, or has too few nodes
        cluster.up(nodes)
        yield cluster
    finally:
        cluster.down()


def orphans() -> list[Cluster]:
    """Clusters of tests that were killed."""
    found = [path.name for path in paths.run_directory("").glob(f"{DEFAULT_TAG}*")]
    pids = {name: name.removeprefix(DEFAULT_TAG) for name in found}
    return [Cluster(name) for name, pid in pids.items() if pid.isdigit() and not Path("/proc", pid).exists()]
