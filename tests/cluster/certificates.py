"""The cluster's certificate authority, and one certificate for each who speaks to the API server."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed.shell import run

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
DAYS = "30"  # longer than any cluster of tests lives


@dataclass(frozen=True)
class Authority:
    """Files in `folder`: ca.crt, ca.key, and NAME.crt, NAME.key for each name issued."""

    folder: Path

    def create(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        files = ("-keyout", self.key("ca"), "-out", self.crt("ca"))
        run(["openssl", "req", "-x509", *KEY, "-days", DAYS, *files, "-subj", "/CN=cluster-ca"])
        run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.key("tokens")])
        run(["openssl", "ec", "-in", self.key("tokens"), "-pubout", "-out", str(self.folder / "tokens.pub")])

    def crt(self, name: str) -> str:
        return str(self.folder / f"{name}.crt")

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    def issue(self, name: str, user: str, group: str = "", hosts: Sequence[str] = ()) -> None:
        """A certificate for a client (`user`, `group` as Kubernetes reads them) that may also serve as `hosts`."""
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        alternatives = ",".join(f"{'IP' if host[0].isdigit() else 'DNS'}:{host}" for host in hosts)
        extensions = ["extendedKeyUsage=clientAuth,serverAuth"]
        extensions += [f"subjectAltName={alternatives}"] if hosts else []
        request, wanted = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        wanted.write_text("\n".join(extensions) + "\n", encoding="utf-8")
        run(["openssl", "req", *KEY, "-keyout", self.key(name), "-out", str(request), "-subj", subject])
        signer = ["-CA", self.crt("ca"), "-CAkey", self.key("ca"), "-CAcreateserial", "-days", DAYS]
        run(["openssl", "x509", "-req", "-in", str(request), *signer, "-out", self.crt(name), "-extfile", str(wanted)])

    def write_kubeconfig(self, path: Path, name: str, server: str) -> None:
        """A kubeconfig for whom `name` was issued to.  It holds the keys, so that it works wherever it is copied to."""
        cluster = {"server": server, "certificate-authority-data": _data(self.crt("ca"))}
        user = {"client-certificate-data": _data(self.crt(name)), "client-key-data": _data(self.key(name))}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": name}}],
            "current-context": "cluster",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")  # JSON is YAML


def _data(path: str) -> str:
    return base64.b64encode(Path(path).read_bytes()).decode("ascii")
