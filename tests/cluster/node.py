"""A node in a box: containerd with Debian's runc and CNI plugins, kubelet, kube-proxy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import addresses, builds
from tests.cluster.box import Box
from tests.cluster.control import ControlPlane
from tests.testbed.shell import ip_batch

SOCKET = "/run/containerd/containerd.sock"
PAUSE_IMAGE = "localhost/pause:1"
CTR = ["ctr", f"--address={SOCKET}", "--namespace=k8s.io"]

CONTAINERD = """\
version = 2
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true  # kubelet wants -998 for pause; a machine without CAP_SYS_RESOURCE refuses that
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"""


@dataclass(frozen=True)
class Node:
    number: int
    box: Box
    control: ControlPlane

    @property
    def name(self) -> str:
        return self.box.host

    @property
    def address(self) -> str:
        return addresses.node(self.number)

    def open(self) -> None:
        """The box, its cable to the wire, its keys and its configuration."""
        self.box.open()
        self._connect()
        authority = self.control.authority
        authority.issue(self.name, f"system:node:{self.name}", "system:nodes", [self.name, self.address])
        authority.write_kubeconfig(self._file("kubelet.kubeconfig"), self.name, addresses.SERVER)
        cni = self._file("cni")
        cni.mkdir()
        (cni / "10-pods.conflist").write_text(json.dumps(self._network()), encoding="utf-8")
        self._file("containerd.toml").write_text(CONTAINERD.format(pause=PAUSE_IMAGE, cni=cni), encoding="utf-8")
        self._file("kubelet.json").write_text(json.dumps(self._kubelet(), indent=1), encoding="utf-8")
        self._file("proxy.json").write_text(json.dumps(self._proxy(), indent=1), encoding="utf-8")

    def start_containerd(self) -> None:
        command = ["containerd", f"--config={self._file('containerd.toml')}"]
        self.box.start("containerd", command, lambda: self.box.succeeds([*CTR, "version"]), seconds=20)

    def start_kubelet(self) -> None:
        self.box.start("kubelet", [
            str(builds.build("kube").with_name("kubelet")),
            f"--config={self._file('kubelet.json')}",
            f"--kubeconfig={self._file('kubelet.kubeconfig')}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address}",
            "--v=2",
        ])  # fmt: skip

    def start_proxy(self) -> None:
        program = builds.build("kube").with_name("kube-proxy")
        self.box.start("kube-proxy", [str(program), f"--config={self._file('proxy.json')}"])

    def load(self, archive: Path) -> None:
        """Makes the images of a docker or OCI archive known to containerd."""
        self.box.run([*CTR, "images", "import", str(archive)])

    def _file(self, name: str) -> Path:
        return self.box.home / name

    def _connect(self) -> None:
        """A cable to the bridge, and routes to the pods of all other nodes that there can be."""
        port = f"n{self.number}"
        others = [number for number in range(1, addresses.MOST_NODES + 1) if number != self.number]
        ip_batch(
            self.control.box.name,
            f"link add {port} type veth peer name eth0 netns {self.box.name}",
            f"link set {port} master wire up",
            f"route add {addresses.pods(self.number)} via {self.address}",
        )
        ip_batch(
            self.box.name,
            f"addr add {self.address}/{addresses.WIRE_PREFIX} dev eth0",
            "link set eth0 up",
            *(f"route add {addresses.pods(other)} via {addresses.node(other)}" for other in others),
            f"route add default via {addresses.CONTROL}",  # nothing is behind it: what is not in the cluster is refused
        )
        self.box.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"])

    def _network(self) -> dict[str, Any]:
        """ptp, not bridge: every packet between two pods is routed, so kube-proxy's NAT sees both directions."""
        ranges = [[{"subnet": addresses.pods(self.number)}]]
        ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        ports = {"type": "portmap", "capabilities": {"portMappings": True}}
        return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": ipam}, ports]}

    def _kubelet(self) -> dict[str, Any]:
        authority = self.control.authority
        # A full disk of the developer's is no reason to evict the pods of a test.
        disks = ("nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "containerRuntimeEndpoint": f"unix://{SOCKET}",
            "address": self.address,
            "tlsCertFile": authority.crt(self.name),
            "tlsPrivateKeyFile": authority.key(self.name),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": authority.crt("ca")},
            },
            "authorization": {"mode": "Webhook"},
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,
            "clusterDomain": "cluster.local",
            "clusterDNS": [addresses.DNS_SERVICE],
            "resolvConf": "",
            "maxPods": 200,
            "evictionHard": dict.fromkeys(("memory.available", *disks), "0%"),
            "imageGCHighThresholdPercent": 100,  # images cannot be pulled again
            "nodeStatusUpdateFrequency": "5s",
            "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        }

    def _proxy(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self.control.kubeconfig("proxy"))},
            "hostnameOverride": self.name,
            "clusterCIDR": addresses.PODS,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            # Limits of the machine's connection table, which a network namespace other than the first cannot set.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }
