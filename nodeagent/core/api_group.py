"""The API group of our own kinds, and the version of it that is written and read."""

from __future__ import annotations

GROUP = "mesh.nodeagent.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
