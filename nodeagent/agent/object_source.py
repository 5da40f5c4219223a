"""Which source of objects the settings name."""

from __future__ import annotations

from nodeagent.agent.settings import Settings
from nodeagent.config.source import Source


def object_source(settings: Settings) -> Source:
    """Each is imported only where it is used: the client of an API server alone is 20 MB."""
    if settings.manifests is not None:
        from nodeagent.config.directory import DirectorySource

        return DirectorySource(settings.manifests, settings.state_dir)
    from nodeagent.kube.client import Client
    from nodeagent.kube.source import KubernetesSource

    return KubernetesSource(Client(settings.kubeconfig), settings.state_dir, settings.node_name)
