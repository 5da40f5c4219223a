"""What is used of the `kubernetes` package, without the rest of it.  Its one importer.

`kubernetes` and `kubernetes.aio` import in their __init__ the synchronous client, its HTTP library, OAuth, websockets,
informers: memory and time at start for what nobody here calls.  So both are entered as packages whose __init__ does
not run; the modules in them are the package's own.
"""

from __future__ import annotations

from nodeagent.packages import enter

enter("kubernetes")
enter("kubernetes.aio")

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
