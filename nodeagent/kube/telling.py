"""All that the API server is told: this node's MeshNode, Events, and, while we lead, the status of objects."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from nodeagent.config.conditions import Conditions
from nodeagent.config.objects import ObjectSet
from nodeagent.kube.api import WritableApi
from nodeagent.kube.event_writer import EventWriter
from nodeagent.kube.leadership import Leadership
from nodeagent.kube.node_reporter import NodeReporter
from nodeagent.kube.relay import Relay
from nodeagent.kube.status_writer import StatusWriter
from nodeagent.status.election import Election, Timing
from nodeagent.status.mesh_node import InForce, NodeFacts
from nodeagent.status.occurrences import Occurrence
from nodeagent.status.pace import Slowly

LEASE = "nodeagent-status"
PATIENCE = 30.0  # seconds; a start takes a third of it in the largest cluster that was measured
LEADERS_SECONDS = 10.0  # between two writes because of what is in force, while who waits for that is we ourselves


class Telling:
    """Nothing here waits but `run`, which ends when it is cancelled."""

    def __init__(
        self, api: WritableApi, relay: Relay, node: str, namespace: str, timing: Timing | None = None
    ) -> None:
        """`relay`: of the source's watches; `namespace`: where the agent and its Lease are."""
        self._node = node
        self._objects = ObjectSet()
        self._enforces = asyncio.Event()
        self._slowly: Slowly[Mapping[str, InForce]] = Slowly(LEADERS_SECONDS)  # what our MeshNode says is in force
        self._newest: NodeFacts | None = None  # as it says it sooner or later
        # Not the node's name alone: an agent that is started again must not take itself for the one before.
        election = Election(f"{node}_{secrets.token_hex(4)}", random.random, timing)
        self.leadership = Leadership(api, namespace, LEASE, election)
        self.events = EventWriter(api, node)
        self.statuses = StatusWriter(api, relay, self.leadership, self.events, namespace)
        self.reporter = NodeReporter(api, node, self._uid, lambda: len(self._objects.nodes))

    def compiled(self, objects: ObjectSet, conditions: Conditions) -> None:
        """The newest objects, and what is to be said about them."""
        before, now = self._objects.nodes.get(self._node), objects.nodes.get(self._node)
        if before is not None and now is not None and now.ready and not before.ready:
            self.reporter.look_again()  # while it was not, the writer may have said that we are silent
        self._objects = objects
        self.statuses.compiled(objects, conditions)

    def node(self, facts: NodeFacts, in_force: ObjectSet) -> None:
        """How this node is, and which objects it enforces now."""
        held = {kind: InForce(one.objects, one.digest) for kind, one in in_force.contents.items()}
        if held:
            self._enforces.set()
        self.statuses.enforced_here(self._node, {kind: one.digest for kind, one in held.items()})
        now = time.monotonic()
        said = self._slowly(held, now) if self.leadership.leads else self._slowly.at_once(held, now)
        self._newest = replace(facts, in_force=held)
        self.reporter.tell(replace(facts, in_force=said))

    def happened(self, occurrences: Iterable[Occurrence]) -> None:
        """Something on this node that deserves an Event."""
        self.events.tell(occurrences)

    async def end(self, *, leaves: bool) -> None:
        """After `run`.  `leaves`: no other agent takes over on this node."""
        if leaves and self._newest is not None:
            self.reporter.tell(self._newest)
            await self.reporter.last("the agent was stopped: see fail modes for what the node does now")

    async def run(self) -> None:
        parts = (self._stand(), self.events.run(), self.statuses.run(), self.reporter.run())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.leadership.release()

    async def _stand(self) -> None:
        """For election, once something is in force here: what the writer has to read would make that come later.

        Where nothing ever is, as perhaps on all nodes, users have to be told of their objects all the same.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._enforces.wait()
        await self.leadership.run()

    def _uid(self) -> str:
        node = self._objects.nodes.get(self._node)
        return node.uid if node else ""
