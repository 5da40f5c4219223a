"""Who has which address.  All from 198.18.0.0/15, the range for benchmarks, which nobody routes.

The wire is a bridge in the control plane's box, with one cable to each node.  A node routes to the pods of the others
by their addresses on the wire, as a cluster without overlay does.
"""

from __future__ import annotations

CONTROL = "198.18.255.1"
WIRE_PREFIX = 24
PODS = "198.18.0.0/17"  # of all nodes; the wire is outside, or kube-proxy would take nodes for pods
SERVICES = "198.19.0.0/16"
API_SERVICE = "198.19.0.1"  # Kubernetes gives the first address to the Service "kubernetes"
DNS_SERVICE = "198.19.0.10"
MOST_NODES = 9
SERVER = f"https://{CONTROL}:6443"


def node(number: int) -> str:
    """The address of node `number` (1..MOST_NODES) on the wire."""
    return f"198.18.255.{10 + number}"


def pods(number: int) -> str:
    """The addresses of the pods of node `number`."""
    return f"198.18.{number}.0/24"
