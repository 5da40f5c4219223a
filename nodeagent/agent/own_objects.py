"""What the agent asks the API server about itself: its DaemonSet (is this our end?) and its Node's taint.

None of it is in the way of enforcement: without an answer everything goes on, and is asked again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from nodeagent.core import own_daemonset, own_taint
from nodeagent.core.own_daemonset import Sight
from nodeagent.kube.api import ApiError

log = logging.getLogger(__name__)

WATCH_SECONDS = 600
AGAIN_SECONDS = 5.0
# Hooks are detached after it, and traffic is to be direct within 2 s.
LAST_QUESTION_SECONDS = 1.0
ANSWER_SECONDS = 10.0


class Api(Protocol):
    """The part of an API server's client that is needed here."""

    async def get(self, path: str, query: Mapping[str, str]) -> bytes: ...
    def stream(
        self, path: str, query: Mapping[str, str], seconds: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...
    async def send(self, method: str, path: str, body: Mapping[str, Any], seconds: float) -> bytes:
        """PATCH is a merge patch."""


# No answer, or none that can be used.
FAILURES = (ApiError, ValueError, KeyError, TypeError, TimeoutError)


class OwnDaemonSet:
    """Followed by a watch: one that began goes on after the right to begin one was taken away."""

    def __init__(self, api: Api, name: str, again_seconds: float = AGAIN_SECONDS) -> None:
        """`name`: "namespace/name"."""
        self._again_seconds = again_seconds
        namespace, _, self._name = name.partition("/")
        self._path = f"/apis/apps/v1/namespaces/{namespace}/daemonsets"
        self._api = api
        self.followed = Sight.UNKNOWN

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._watch(await self._list())
            except FAILURES as error:
                log.debug("our DaemonSet cannot be followed, trying again: %s", error)
            await asyncio.sleep(self._again_seconds)  # also after a watch that a server ended at once

    async def at_the_end(self) -> Sight:
        """One last question, shortly."""
        try:
            async with asyncio.timeout(LAST_QUESTION_SECONDS):
                asked, _ = await self._question()
        except FAILURES as error:
            why = str(error) or "no answer"
            log.warning("the API server does not say whether our DaemonSet is still there: %s", why)
            asked = Sight.UNKNOWN
        return own_daemonset.at_the_end(asked, self.followed)

    async def _list(self) -> str:
        self.followed, version = await self._question()
        return version

    async def _question(self) -> tuple[Sight, str]:
        answer = json.loads(await self._api.get(self._path, self._only()))
        return own_daemonset.listed(answer["items"]), answer["metadata"]["resourceVersion"]

    async def _watch(self, version: str) -> None:
        """Until the server ends it, or says that it cannot go on from there."""
        query = {**self._only(), "watch": "1", "resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS)}
        async with self._api.stream(self._path, query, WATCH_SECONDS) as lines:
            async for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self.followed = own_daemonset.watched(event["type"], event["object"], self.followed)

    def _only(self) -> dict[str, str]:
        return {"fieldSelector": f"metadata.name={self._name}"}


class OwnTaint:
    """Takes `agent-not-ready` from our Node, once: when the agent is ready for the first time."""

    def __init__(self, api: Api, node: str, ready: Callable[[], bool], again_seconds: float = AGAIN_SECONDS) -> None:
        self._again_seconds = again_seconds
        self._api, self._ready = api, ready
        self._path = f"/api/v1/nodes/{node}"
        self.problem = ""

    async def take_away(self, look_seconds: float = 0.2) -> None:
        """Returns once the node is without it."""
        while True:
            if not self._ready():
                await asyncio.sleep(look_seconds)
            elif await self._try():
                return
            else:
                await asyncio.sleep(self._again_seconds)

    async def _try(self) -> bool:
        try:
            await self._once()
        except FAILURES as error:
            why = str(error) or "no answer in time"
            if why != self.problem:
                log.warning("the taint %s stays for now, and keeps pods away: %s", own_taint.TAINT, why)
            self.problem = why
            return False
        self.problem = ""
        return True

    async def _once(self) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            node: dict[str, Any] = json.loads(await self._api.get(self._path, {}))
        if own_taint.is_tainted(node):
            await self._api.send("PATCH", self._path, own_taint.without_taint(node), ANSWER_SECONDS)
            log.info("the taint %s is taken away: this node enforces", own_taint.TAINT)
