"""Keeps the status of this node's own MeshNode as the agent's facts are."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nodeagent.core.api_group import API_VERSION
from nodeagent.kube.api import ApiError, Reason, WritableApi
from nodeagent.kube.event_writer import wall_time
from nodeagent.kube.records import RecordError, decode
from nodeagent.status.mesh_node import NodeFacts, mesh_node, planned
from nodeagent.status.pace import Backoff, Spacing

log = logging.getLogger(__name__)

COLLECTION = f"/apis/{API_VERSION}/meshnodes"
SECONDS = 5.0  # that an answer may take
SPACING, QUICK = 0.5, 0.05  # seconds between two writes of one node, and between the first two after a pause
CLUSTER_RATE = 50.0  # writes/s of all nodes together: in a large cluster each waits longer
CHECK = 300.0  # seconds between looks whether it is still there
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0


class NodeReporter:
    """`tell` never waits; `run` until cancelled."""

    def __init__(self, api: WritableApi, node: str, uid: Callable[[], str], nodes: Callable[[], int]) -> None:
        """`uid` of the Node, "" = not known; `nodes`: how many there are."""
        self._api = api
        self.node = node
        self._uid, self._nodes = uid, nodes
        self._facts: NodeFacts | None = None
        self._status: dict[str, Any] | None = None  # as the API server has it; None = not known
        self._told = asyncio.Event()
        self._said = ""
        self._spacing = Spacing(SPACING, QUICK)
        self.written = 0
        self.failed = 0

    def tell(self, facts: NodeFacts) -> None:
        if facts != self._facts:
            self._facts = facts
            self._told.set()

    def look_again(self) -> None:
        """Somebody else may have written it."""
        self._status = None
        self._told.set()

    async def last(self, problem: str) -> None:
        """This agent ends: what it told is no longer kept up to date."""
        if self._facts is None:
            return
        self._facts = replace(self._facts, problem=problem)
        try:
            await self._report()
        except (ApiError, RecordError, TimeoutError) as error:
            log.info("MeshNode %s does not say that its agent ended: %s", self.node, str(error) or "no answer in time")

    async def run(self) -> None:
        backoff = self._new_backoff()
        while True:
            if not await self._wait(self._told, CHECK * (1 + random.random() / 4)):
                self._status = None  # look again: somebody may have deleted it
            self._told.clear()
            try:
                if await self._report():
                    await asyncio.sleep(self._spacing.wrote(self._nodes() / CLUSTER_RATE, time.monotonic()))
                backoff, self._said = self._new_backoff(), ""
            except (ApiError, RecordError, TimeoutError) as error:
                self._failed(error)
                after = error.failure.retry_after if isinstance(error, ApiError) else 0.0
                await asyncio.sleep(backoff.failed(after))
                self._told.set()

    async def _report(self) -> bool:
        """True = it was written."""
        if self._facts is None:
            return False
        if self._status is None:
            self._status = await self._read()
        status = planned(self._facts, self._status, wall_time())
        if status is None:
            return False
        body = await self._api.send("PATCH", f"{COLLECTION}/{self.node}/status", {"status": status}, SECONDS)
        self._status = decode(body).get("status") or {}
        self.written += 1
        return True

    async def _read(self) -> dict[str, Any]:
        """Made where there is none."""
        try:
            async with asyncio.timeout(SECONDS):
                value = decode(await self._api.get(f"{COLLECTION}/{self.node}", {}))
        except ApiError as error:
            if error.status != 404:
                raise
            made = mesh_node(self.node, self._uid())
            value = decode(await self._api.send("POST", COLLECTION, made, SECONDS))
        status: dict[str, Any] = value.get("status") or {}
        return status

    def _failed(self, error: Exception) -> None:
        self._status = None
        self.failed += 1
        text = str(error) or "no answer in time"
        if text == self._said:
            return
        self._said = text
        missing = isinstance(error, ApiError) and error.failure.reason is Reason.MISSING
        fix = "; install the CRDs of daemonset/crds" if missing else ""
        log.warning("MeshNode %s is not written, so that no route is Programmed: %s%s", self.node, text, fix)

    def _new_backoff(self) -> Backoff:
        return Backoff(FIRST_PAUSE, LONGEST_PAUSE, random.random)

    async def _wait(self, event: asyncio.Event, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True
