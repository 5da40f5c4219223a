"""Gateway API on the cluster: its CRDs and its own conformance suite, both from its Go modules."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import builds, images, progress
from tests.cluster.cluster import Cluster
from tests.conformance.cases import CONSUMER, MESH
from tests.conformance.features import CORE

MODULE = "sigs.k8s.io/gateway-api"
NAMESPACES = (f"namespace/{MESH}", f"namespace/{CONSUMER}")
RESULT = re.compile(r"^    --- (PASS|FAIL|SKIP): TestConformance/(\w+) ", re.MULTILINE)


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

    def said_of(self, test: str) -> str:
        """What the suite printed while that test ran."""
        found = re.search(rf"^=== RUN   TestConformance/{test}$.*?(?=^=== RUN   TestConformance/\w+$|^--- |\Z)",
                          self.printed, re.MULTILINE | re.DOTALL)  # fmt: skip
        return found[0] if found else ""

    def _with(self, wanted: str) -> set[str]:
        return {name for result, name in RESULT.findall(self.printed) if result == wanted}


def run_suite(cluster: Cluster, report: Path, options: Sequence[str], features: Sequence[str] = CORE) -> Outcome:
    """Runs the MESH-HTTP profile; `report` is written if the suite could do its work, whatever the results.

    `options` are further flags of the suite: "-run-test=MeshBasic" for one test, "-organization=..." for a report,
    "-namespace-labels=NAME=VALUE" for what enrols its namespaces in a mesh.
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
