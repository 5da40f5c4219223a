"""What a kubelet and a runtime leave in the kernel for each pod: cgroups, a sandbox in the namespace, containers.

    kubelet = Kubelet(bed)
    web = kubelet.add_pod("shop", "web")        # its cgroup, nothing in it
    kubelet.start_sandbox(web)                  # the network namespace, and "pause" in it
    kubelet.container(web)                      # -> a testbed Pod: bed.run and bed.popen start processes in it
"""

from __future__ import annotations

import secrets
import subprocess
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.testbed import cgroups, manifests
from tests.testbed.bed import Pod, Testbed
from tests.testbed.network import NETNS_DIR
from tests.testbed.shell import ip_batch

NODE = "node-a"


@dataclass
class KubePod:
    """`pod.cgroup` is the pod's; containers have their own below it."""

    uid: str
    pod: Pod
    sandboxes: list[subprocess.Popen[Any]] = field(default_factory=list)

    @property
    def cgroup(self) -> Path:
        return self.pod.cgroup


class Kubelet:
    """Of one testbed's node, whose cgroup it makes `kubepods` in."""

    def __init__(self, bed: Testbed, below: str = "kubepods") -> None:
        self._bed = bed
        self.root = bed.cgroup / below
        self.root.mkdir(parents=True)
        self.pods: list[KubePod] = []
        self._free = list(range(254, 99, -1))  # last bytes of addresses

    def close(self) -> None:
        """End every process and remove every pod.  Otherwise the testbed does it."""
        cgroups.kill(self.root)
        for pod in list(self.pods):
            self.stop_sandbox(pod)
            self.remove(pod)

    def add_pod(
        self, namespace: str, name: str, *, qos: str = "burstable", host_network: bool = False, **fields: Any
    ) -> KubePod:
        """As soon as it is bound to the node: the API server has it, and its cgroup is made."""
        uid, host = str(uuid.uuid4()), self._free.pop()
        cgroup = self.root / qos / f"pod{uid}"
        cgroup.mkdir(parents=True)
        network = self._bed.network
        ipv4, ipv6 = network.ipv4(host), network.ipv6(host)
        netns = network.node_path if host_network else NETNS_DIR / f"{network.tag}-{namespace}-{name}"
        document = manifests.pod(namespace, name, [ipv4, ipv6], netns, **fields)
        del document["metadata"]["annotations"]
        document["metadata"]["uid"] = uid
        document["spec"] |= {"nodeName": NODE, "hostNetwork": host_network}
        made = KubePod(uid, Pod(namespace, name, ipv4, ipv6, netns, cgroup, document))
        if not host_network:
            network.add_pod(f"{namespace}-{name}", host)
        self.pods.append(made)
        return made

    def start_sandbox(self, pod: KubePod) -> None:
        pod.sandboxes.append(self._bed.popen(self.container(pod), ["sleep", "infinity"]))

    def restart_sandbox(self, pod: KubePod) -> None:
        """In place, as after a crash of "pause": the same pod and address, another namespace."""
        self.stop_sandbox(pod)
        self._remove_network(pod)
        self._bed.network.add_pod(f"{pod.pod.namespace}-{pod.pod.name}", _host(pod))
        self.start_sandbox(pod)

    def _remove_network(self, pod: KubePod) -> None:
        """As a CNI plugin: the device by name, whoever still holds the namespace."""
        network = self._bed.network
        ip_batch(network.node, f"link del p{_host(pod)}")
        network.remove_pod(f"{pod.pod.namespace}-{pod.pod.name}")

    def stop_sandbox(self, pod: KubePod) -> None:
        for process in pod.sandboxes:
            process.kill()
            process.wait()
        pod.sandboxes.clear()

    def container(self, pod: KubePod) -> Pod:
        """A new container's cgroup, for bed.run and bed.popen."""
        cgroup = pod.cgroup / secrets.token_hex(32)
        cgroup.mkdir()
        return replace(pod.pod, cgroup=cgroup)

    def remove(self, pod: KubePod) -> None:
        """All processes in it must have ended."""
        cgroups.remove(pod.cgroup)
        if pod.pod.netns != self._bed.network.node_path:
            self._remove_network(pod)
        self._free.append(_host(pod))
        self.pods.remove(pod)

    def documents(self) -> list[manifests.Document]:
        return [pod.pod.document for pod in self.pods]


def _host(pod: KubePod) -> int:
    return int(pod.pod.ipv4.rpartition(".")[2])
