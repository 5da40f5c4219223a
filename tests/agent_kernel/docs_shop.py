"""The shop that the documents speak of: its pods, Services and names, an agent, and one example at a time in force.

web-1 calls catalog (catalog-v1-1 and catalog-v2-1, each a Service of its own, too), payments (which has a route) and
ledger (which also listens at port 5432), all in the namespace shop; job-1 in the namespace batch is another caller.
"""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterable, Sequence

import yaml

from tests.doc_examples import Command, Example, agrees
from tests.testbed import Pod, Testbed, manifests
from tests.testbed.agent import REPOSITORY
from tests.testbed.manifests import Document

PORT, LEDGER_PORT = 8080, 5432
SERVICES = {
    "catalog": ("catalog-v1-1", "catalog-v2-1"),
    "catalog-v1": ("catalog-v1-1",),
    "catalog-v2": ("catalog-v2-1",),
    "payments": ("payments-1",),
    "ledger": ("ledger-1",),
}
SECONDS = 2.0  # until a count or a line of `observe` has come where commands on the node read it
_WITH_HOSTS = 'mount --bind "$1" /etc/hosts && exec /bin/sh -c "$2"'  # in a mount namespace of its own


class DocsShop:
    """`bed` must be open and of subnet 0: documents name addresses.  Servers run, the agent is ready."""

    def __init__(self, bed: Testbed) -> None:
        self._bed = bed
        servers = dict.fromkeys(pod for pods in SERVICES.values() for pod in pods)
        self._pods = {name: self._add_pod("shop", name) for name in ("web-1", *servers)}
        self._pods["job-1"] = self._add_pod("batch", "job-1")
        for name in servers:
            bed.serve(self._pods[name], PORT)
        bed.serve(self._pods["ledger-1"], LEDGER_PORT)
        self._hosts = bed.home / "hosts"
        names = (f"{bed.vip(number)} {name} {name}.shop\n" for number, name in enumerate(SERVICES, 1))
        self._hosts.write_text("127.0.0.1 localhost\n" + "".join(names), encoding="ascii")
        self._base = self._documents()
        bed.manifests.write("shop.yaml", *self._base)
        self._agent = bed.start_agent("--allow-fault-injection")

    def _add_pod(self, namespace: str, name: str) -> Pod:
        workload = name.rpartition("-")[0]
        return self._bed.add_pod(namespace, name, service_account=workload.partition("-")[0], workload=workload)

    def _documents(self) -> list[Document]:
        spaces = [manifests.namespace("shop"), manifests.namespace("batch")]
        services = [one for number, name in enumerate(SERVICES, 1) for one in self._service(number, name)]
        rule = {"backendRefs": [manifests.backend("payments", 1)]}
        route = manifests.http_route("shop", "payments", "payments", [rule])
        return [*spaces, *self._bed.pod_documents(), *services, route]

    def _service(self, number: int, name: str) -> Sequence[Document]:
        service = manifests.service("shop", name, [self._bed.vip(number)], target_port=PORT)
        endpoints = manifests.endpoint_slice("shop", name, [self._pods[pod].ipv4 for pod in SERVICES[name]], port=PORT)
        if name == "ledger":
            service["spec"]["ports"].append({"name": "tcp", "port": LEDGER_PORT, "targetPort": LEDGER_PORT})
            endpoints["ports"].append({"name": "tcp", "port": LEDGER_PORT})
        return service, endpoints

    # ---- configuration ----

    def apply(self, examples: Iterable[Example]) -> None:
        """Put these in force, in place of those before and of what they define anew."""
        netns = f"/run/netns/{self._bed.tag}-"
        text = "---\n".join(example.manifest for example in examples).replace("/run/netns/", netns)
        new = list(yaml.safe_load_all(text))
        defined = {_name(document) for document in new}
        kept = [document for document in self._base if _name(document) not in defined]
        self._agent.apply(lambda: self._bed.manifests.write("shop.yaml", *kept, *new))

    # ---- commands ----

    def run(self, command: Command) -> str:
        """What the command printed, on both streams.  On the node it is asked again, for SECONDS, until it agrees."""
        if command.pod:
            return self._in_pod(self._pods[command.pod], command.command)
        deadline = time.monotonic() + SECONDS
        while True:
            printed = self._on_node(command.command)
            if agrees(command.expected, printed) or time.monotonic() > deadline:
                return printed
            time.sleep(0.05)

    def _in_pod(self, pod: Pod, command: str) -> str:
        argv = ["unshare", "--mount", "/bin/sh", "-c", _WITH_HOSTS, "sh", str(self._hosts), command]
        done = self._bed.run(pod, argv)
        return done.stdout + done.stderr

    def _on_node(self, command: str) -> str:
        words = shlex.split(command)
        if words[0] == "nodeagent":
            argv = self._agent.cli_argv(*words[1:])
        else:
            argv = ["nsenter", f"--net={self._agent.netns}", "/bin/sh", "-c", command]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=REPOSITORY)
        return done.stdout + done.stderr


def _name(document: Document) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]
