"""Which source of objects the settings name, and the one way to an API server, if any is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeagent.agent.settings import Settings
from nodeagent.config.source import Source

if TYPE_CHECKING:
    from nodeagent.kube.client import Client
    from nodeagent.kube.relay import Relay


def api_client(settings: Settings) -> Client | None:
    """For everything that this agent asks an API server, and closed by who made it; None = nothing is to be asked."""
    if settings.manifests is not None and not settings.daemonset:
        return None
    from nodeagent.kube.client import Client  # only where it is used: it is 20 MB

    return Client(settings.kubeconfig)


def object_source(settings: Settings, api: Client | None, relay: Relay) -> Source:
    """`relay`: for who needs what its watches say, too."""
    if settings.manifests is not None:
        from nodeagent.config.directory import DirectorySource

        return DirectorySource(settings.manifests, settings.state_dir)
    from nodeagent.kube.source import KubernetesSource

    if api is None:
        raise ValueError("objects from an API server need a client of it")
    return KubernetesSource(api, settings.state_dir, settings.node_name, relay)
