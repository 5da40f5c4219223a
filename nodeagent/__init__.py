"""nodeagent: a sidecarless service mesh, one agent per node."""

__version__ = "0.1.0"
