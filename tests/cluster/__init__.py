"""A real Kubernetes cluster on one machine, from Go modules and Debian packages, and nothing left afterwards.

Nouns: a `Box` is a machine in a box (namespaces and a cgroup root); the `ControlPlane` lives in one, each `Node` in
another; a `Cluster` is these together; a build is a program from Go modules, an image an archive that
containerd imports, and both are made once and kept in the user's cache directory.

    cluster = Cluster()
    cluster.up(2)
    cluster.kubectl("get", "nodes")
    cluster.node(1).box.run(["ctr", "version"])
    cluster.down()

The machine's own network gets no device, address, rule or route, and no process or mount of a cluster can outlive it:
they end with the namespaces.
"""

from tests.cluster.cluster import Cluster

__all__ = ["Cluster"]
