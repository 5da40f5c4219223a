"""A node in a box: pods as network namespaces, one agent beside them, and nothing left afterwards.

Nouns: a `Testbed` is one node (a namespace that holds a bridge, a cgroup, a bpffs directory, a temporary
directory); a `Pod` is a namespace on that bridge with a cgroup below the node's; `Manifests` is the
directory that the agent watches; an `Agent` is `nodeagent run` as a child process.

    with Testbed() as bed:
        web = bed.add_pod("shop", "web")
        bed.serve(bed.add_pod("shop", "catalog"), 8080)
        bed.manifests.write("shop.yaml", manifests.namespace("shop", enrolled=True), *bed.pod_documents())
        with bed.start_agent() as agent:
            bed.run(web, ["curl", "-sS", "http://198.19.0.1/"])

Addresses come from 198.18.0.0/15 and fd00:198:18::/48 only (benchmarking ranges, never routed).
"""

from tests.testbed.agent import Agent
from tests.testbed.bed import Pod, Testbed

__all__ = ["Agent", "Pod", "Testbed"]
