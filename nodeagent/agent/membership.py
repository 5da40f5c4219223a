"""What an agent does as a pod of a DaemonSet besides its work: it asks whether it is being replaced or removed, and
takes the taint from its Node.  Without a cluster: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from nodeagent.agent.settings import Settings
from nodeagent.core.own_daemonset import Sight


class Membership(Protocol):
    async def run(self) -> None:
        """Until cancelled."""

    async def is_our_end(self) -> bool:
        """Nobody comes after us: asked once, when the agent was told to stop."""

    async def close(self) -> None: ...


class Alone:
    """No DaemonSet was named: the operator's flags say what a stop means."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def is_our_end(self) -> bool:
        return False

    async def close(self) -> None:
        pass


class InDaemonSet:
    def __init__(self, settings: Settings, ready: Callable[[], bool]) -> None:
        from nodeagent.agent.own_objects import OwnDaemonSet, OwnTaint
        from nodeagent.kube.client import Client

        self._client = Client(settings.kubeconfig)
        self._daemonset = OwnDaemonSet(self._client, settings.daemonset)
        self._taint = OwnTaint(self._client, settings.node_name, ready)

    async def run(self) -> None:
        await asyncio.gather(self._daemonset.follow(), self._taint.take_away())

    async def is_our_end(self) -> bool:
        return await self._daemonset.at_the_end() is Sight.GONE

    async def close(self) -> None:
        await self._client.close()


def membership(settings: Settings, ready: Callable[[], bool]) -> Membership:
    return InDaemonSet(settings, ready) if settings.daemonset else Alone()
