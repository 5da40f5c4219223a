"""What an agent does as a pod of a DaemonSet besides its work: it asks whether it is being replaced or removed, and
takes the taint from its Node.  Without a cluster: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from nodeagent.agent.settings import Settings
from nodeagent.core.own_daemonset import Sight

if TYPE_CHECKING:
    from nodeagent.agent.own_objects import Api


class Membership(Protocol):
    async def run(self) -> None:
        """Until cancelled."""

    async def is_our_end(self) -> bool:
        """Nobody comes after us: asked once, when the agent was told to stop."""


class Alone:
    """No DaemonSet was named: the operator's flags say what a stop means."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def is_our_end(self) -> bool:
        return False


class InDaemonSet:
    def __init__(self, settings: Settings, api: Api, ready: Callable[[], bool]) -> None:
        from nodeagent.agent.own_objects import OwnDaemonSet, OwnTaint

        self._daemonset = OwnDaemonSet(api, settings.daemonset)
        self._taint = OwnTaint(api, settings.node_name, ready)

    async def run(self) -> None:
        await asyncio.gather(self._daemonset.follow(), self._taint.take_away())

    async def is_our_end(self) -> bool:
        return await self._daemonset.at_the_end() is Sight.GONE


def membership(settings: Settings, api: Api | None, ready: Callable[[], bool]) -> Membership:
    return InDaemonSet(settings, api, ready) if settings.daemonset and api else Alone()
