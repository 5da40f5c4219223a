"""The control plane in a box of its own: etcd, API server, controller manager, scheduler, and the wire to the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.cluster import addresses, builds
from tests.cluster.box import Box
from tests.cluster.certificates import Authority

CLIENTS = {  # file name: (user, group)
    "admin": ("admin", "system:masters"),
    "manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
}


@dataclass(frozen=True)
class ControlPlane:
    box: Box
    authority: Authority
    configs: Path  # kubeconfigs, one for each client

    def kubeconfig(self, name: str) -> Path:
        return self.configs / f"{name}.kubeconfig"

    def prepare(self) -> None:
        """Keys and kubeconfigs."""
        self.authority.create()
        service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        names = ["127.0.0.1", addresses.CONTROL, addresses.API_SERVICE, "localhost", *service]
        self.authority.issue("apiserver", "kube-apiserver", hosts=names)
        self.configs.mkdir(parents=True)
        for name, (user, group) in CLIENTS.items():
            self.authority.issue(name, user, group)
            self.authority.write_kubeconfig(self.kubeconfig(name), name, addresses.SERVER)

    def open(self) -> None:
        """The box, with the wire's bridge."""
        self.box.open()
        self.box.run(["ip", "link", "add", "wire", "type", "bridge"])
        self.box.run(["ip", "addr", "add", f"{addresses.CONTROL}/{addresses.WIRE_PREFIX}", "dev", "wire"])
        self.box.run(["ip", "link", "set", "wire", "up"])

    def start(self) -> None:
        """Everything, until the API server answers."""
        self.start_etcd()
        self.start_apiserver()
        self.box.start("kube-controller-manager", self._manager())
        self.box.start("kube-scheduler", self._scheduler())

    def start_etcd(self) -> None:
        self.box.start("etcd", ["etcd", "--name=control", "--data-dir=/var/lib/etcd", "--log-level=warn"])

    def start_apiserver(self) -> None:
        """Also after `box.stop("kube-apiserver")`: what etcd holds is still there."""
        self.box.start("kube-apiserver", self._apiserver(), self.answers)

    def answers(self) -> bool:
        """Whether the API server says that it is ready."""
        return self.box.succeeds([*self.kubectl(), "get", "--raw=/readyz"])

    def kubectl(self) -> list[str]:
        """kubectl with all rights; its arguments follow."""
        return [_program("kubectl"), f"--kubeconfig={self.kubeconfig('admin')}"]

    def _apiserver(self) -> list[str]:
        authority = self.authority
        return [
            _program("kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379",
            f"--bind-address={addresses.CONTROL}",
            f"--advertise-address={addresses.CONTROL}",
            "--secure-port=6443",
            f"--tls-cert-file={authority.crt('apiserver')}",
            f"--tls-private-key-file={authority.key('apiserver')}",
            f"--client-ca-file={authority.crt('ca')}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            f"--service-cluster-ip-range={addresses.SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={authority.folder / 'tokens.pub'}",
            f"--service-account-signing-key-file={authority.key('tokens')}",
            f"--kubelet-client-certificate={authority.crt('apiserver-kubelet')}",
            f"--kubelet-client-key={authority.key('apiserver-kubelet')}",
            f"--kubelet-certificate-authority={authority.crt('ca')}",
            "--kubelet-preferred-address-types=InternalIP",
            "--profiling=false",
        ]

    def _manager(self) -> list[str]:
        return [
            _program("kube-controller-manager"),
            *self._own_kubeconfig("manager"),
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={self.authority.key('tokens')}",
            f"--root-ca-file={self.authority.crt('ca')}",
            f"--cluster-signing-cert-file={self.authority.crt('ca')}",
            f"--cluster-signing-key-file={self.authority.key('ca')}",
            "--node-monitor-grace-period=20s",  # a node that is cut off is seen as such within a test
        ]

    def _scheduler(self) -> list[str]:
        options = ["--bind-address=127.0.0.1", "--leader-elect=false"]
        return [_program("kube-scheduler"), *self._own_kubeconfig("scheduler"), *options]

    def _own_kubeconfig(self, name: str) -> list[str]:
        path = self.kubeconfig(name)
        return [f"--{use}kubeconfig={path}" for use in ("", "authentication-", "authorization-")]


def _program(name: str) -> str:
    return str(builds.build("kube").with_name(name))
