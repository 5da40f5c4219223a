"""Gateway API on the cluster: its CRDs and its own conformance suite, both from its Go modules."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import builds, images, progress
from tests.cluster.cluster import Cluster

MODULE = "sigs.k8s.io/gateway-api"
NAMESPACES = ("namespace/gateway-conformance-mesh", "namespace/gateway-conformance-mesh-consumer")
MESH_CORE = ("Mesh", "HTTPRoute")


def crds(channel: str = "standard") -> Path:
    """The directory of the CRDs of a release channel."""
    return builds.module_directory("conformance", MODULE) / "config" / "crd" / channel


def install(cluster: Cluster) -> None:
    """Applies the CRDs, server-side since they are larger than an annotation may be, and waits for them."""
    applied = cluster.kubectl("apply", "--server-side", "-f", str(crds()), "-o", "name").split()
    kinds = [name for name in applied if name.startswith("customresourcedefinition")]
    cluster.kubectl("wait", "--for=condition=Established", *kinds, "--timeout=30s")


@dataclass(frozen=True)
class Outcome:
    """What a run of the suite said, line by line as `go test -v` prints it."""

    printed: str

    @property
    def passed(self) -> set[str]:
        return self._with("PASS")

    @property
    def failed(self) -> set[str]:
        return self._with("FAIL")

    def _with(self, result: str) -> set[str]:
        return set(re.findall(rf"^    --- {result}: TestConformance/(\w+) ", self.printed, re.MULTILINE))


def run_suite(cluster: Cluster, report: Path, options: Sequence[str], features: Sequence[str] = MESH_CORE) -> Outcome:
    """Runs the MESH-HTTP profile; `report` is written if the suite could do its work, whatever the results.

    `options` are further flags of the suite: "-run-test=MeshBasic" for one test, "-organization=..." for a report.
    """
    program = builds.build("conformance")
    cluster.load(images.echo())
    # A run deletes its namespaces without waiting, and the next could not make its objects in them.
    cluster.kubectl("wait", "--for=delete", *NAMESPACES, "--timeout=90s")
    flags = [
        "-test.v",
        "-conformance-profiles=MESH-HTTP",
        f"-supported-features={','.join(features)}",
        f"-report-output={report}",
    ]
    with progress.step("running Gateway API's conformance suite", "some minutes for all of it"):
        command = ["env", f"KUBECONFIG={cluster.kubeconfig}", str(program), *flags, *options]
        argv = cluster.control.box.inside(command)
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return Outcome(done.stdout)
