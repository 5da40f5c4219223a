"""What is used of the `kubernetes` package, without the rest of it.  Its one importer.

`kubernetes` and `kubernetes.aio` import in their __init__ the synchronous client, its HTTP library, OAuth, websockets,
informers: memory and time at start for what nobody here calls.  So both are entered as packages whose __init__ does
not run; the modules in them are the package's own.
"""

from __future__ import annotations

import importlib.util
import sys


def _enter(name: str) -> None:
    """Nothing, if the package is imported already, or not installed: the import below tells."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    parent, _, own = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, made)


_enter("kubernetes")
_enter("kubernetes.aio")

from kubernetes.aio.client import ApiClient, Configuration  # noqa: E402  what comes before is the point
from kubernetes.aio.client.rest import RESTClientObject  # noqa: E402
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config  # noqa: E402

__all__ = [
    "ApiClient",
    "ConfigException",
    "Configuration",
    "RESTClientObject",
    "load_incluster_config",
    "load_kube_config",
]
