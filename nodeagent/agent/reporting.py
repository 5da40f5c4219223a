"""What this agent tells the API server of its node and of objects, where its objects come from one."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from nodeagent import __version__
from nodeagent.agent.left_out import LeftOut
from nodeagent.agent.readings import NodeState, Told
from nodeagent.agent.rhythm import until_beat
from nodeagent.agent.settings import Settings
from nodeagent.config.conditions import Conditions
from nodeagent.config.objects import ObjectSet
from nodeagent.kernel import abi
from nodeagent.status.mesh_node import BYPASSED, DETACHED, ENFORCING, PENDING, STALE, SYNCED, Counted, NodeFacts
from nodeagent.status.pace import Slowly

if TYPE_CHECKING:
    from nodeagent.kube.api import WritableApi
    from nodeagent.kube.relay import Relay
    from nodeagent.kube.telling import Telling

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
DEFAULT_NAMESPACE = "nodeagent"
LOOK_SECONDS = 2.0  # between two looks at all facts
STEADY_SECONDS = 10.0  # a worker dies and is replaced, every change makes an agent be behind for a moment: no news
COUNT_SECONDS = 10.0  # between two writes because of numbers that move with every pod
STALE_SECONDS = 15.0
GENERATIONS = 64  # compiled, and not yet in force; what is older cannot be named any more


class View(Protocol):
    """The part of the admin view that is used here."""

    def ready(self) -> str: ...
    def workers(self) -> tuple[int, int]:
        """(That serve, that there should be)."""

    def left_out(self) -> Mapping[str, str]:
        """Pods that should be enrolled ("namespace/name"), and why they are not."""

    def in_force(self) -> int: ...
    def state(self) -> NodeState: ...
    def errors(self) -> list[str]: ...


class Compiled(Protocol):
    """The part of the configuration that is used here."""

    compiled: ObjectSet
    conditions: Conditions


def reporting_of(settings: Settings, api: WritableApi | None, relay: Relay) -> Reporting | None:
    """`relay`: of the source's watches.  None = objects come from a directory, and there is nobody to tell."""
    if settings.manifests is not None or api is None:
        return None
    from nodeagent.kube.telling import Telling

    return Reporting(Telling(api, relay, settings.node_name, own_namespace()), settings.node_name)


def own_namespace(file: Path = NAMESPACE_FILE) -> str:
    """Where the agent runs, and its Lease is."""
    if named := os.environ.get("POD_NAMESPACE"):
        return named
    try:
        return file.read_text(encoding="utf-8").strip() or DEFAULT_NAMESPACE
    except OSError:
        return DEFAULT_NAMESPACE


class Steady:
    """A problem, once it has lasted.  That it is over is said at once."""

    def __init__(self, seconds: float = STEADY_SECONDS) -> None:
        self._seconds = seconds
        self._since: float | None = -math.inf  # at first a problem is no interruption of what was well

    def __call__(self, problem: str, now: float) -> str:
        if not problem:
            self._since = None
        elif self._since is None:
            self._since = now
        return problem if self._since is not None and now - self._since >= self._seconds else ""


class Reporting:
    def __init__(self, telling: Telling, node: str) -> None:
        self.telling = telling
        self._left_out = LeftOut(node)
        self._newest = ObjectSet()
        self._counted: Slowly[Counted] = Slowly(COUNT_SECONDS)
        self._generations: dict[int, ObjectSet] = {}  # that may come in force, and the newest that is
        self._changed = asyncio.Event()
        self._facts = NodeFacts(DETACHED, "", "")  # of the last look
        self._not_ready, self._behind = Steady(), Steady()

    def compiled(self, generation: int, configuration: Compiled) -> None:
        """Of a new snapshot; it is about to be put in force."""
        self._generations[generation] = self._newest = configuration.compiled
        if len(self._generations) > GENERATIONS:
            del self._generations[min(self._generations)]
        self.telling.compiled(configuration.compiled, configuration.conditions)

    def applied(self) -> None:
        """The newest of them is in force, or as far as it comes."""
        self._changed.set()

    async def run(self, view: View, ours: asyncio.Event) -> None:
        """`ours`: set once the maps are ours to write; until then another agent speaks for the node."""
        await ours.wait()
        telling = asyncio.create_task(self.telling.run())
        try:
            while not telling.done():
                self._look(view)
                await self._until_look(view)
            telling.result()
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    def told(self) -> Told:
        """For metrics."""
        statuses, events, reporter = self.telling.statuses, self.telling.events, self.telling.reporter
        return Told(
            writer=self.telling.leadership.leads,
            waiting=statuses.waiting,
            statuses=statuses.counts.written,
            statuses_conflicting=statuses.counts.conflicts,
            statuses_failed=statuses.counts.failed,
            nodes=reporter.written,
            nodes_failed=reporter.failed,
            events=events.written,
            events_failed=events.failed,
            events_left_out=events.left_out,
        )

    async def end(self, *, leaves: bool) -> None:
        """`leaves`: no other agent takes over on this node."""
        await self.telling.end(leaves=leaves)

    async def _until_look(self, view: View) -> None:
        """What comes in force meanwhile is told at once, with the facts of the last look if they were well."""
        now = time.monotonic()
        end = now + until_beat(LOOK_SECONDS, now)
        while (left := end - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
            if not self._changed.is_set():
                return
            self._changed.clear()
            if self._facts.problem or self._facts.sync != SYNCED:
                return
            if view.in_force() >= max(self._generations, default=0):
                self._behind("", time.monotonic())  # or changes that are on their way at each look are taken for one
            self._tell(view)

    def _look(self, view: View) -> None:
        now = time.monotonic()
        self._facts = self._facts_of(view, now)
        self._tell(view)
        self.telling.happened(self._left_out.news(self._newest, view.left_out(), now))

    def _tell(self, view: View) -> None:
        generation = view.in_force()
        here = [one for one in self._generations if one <= generation]
        for old in here[:-1]:
            del self._generations[old]
        self.telling.node(self._facts, self._generations[here[-1]] if here else ObjectSet())

    def _facts_of(self, view: View, now: float) -> NodeFacts:
        state, errors = view.state(), view.errors()
        sync, behind = self._sync(state, errors, now)
        return NodeFacts(
            mode=DETACHED if not state.attached else BYPASSED if state.bypass else ENFORCING,
            kernel=os.uname().release,
            version=__version__,
            problem=self._not_ready(view.ready(), now),
            sync=sync,
            sync_problem=behind,
            layout=abi.LAYOUT_VERSION,
            counted=self._counted(self._count(view, state), now),
        )

    def _count(self, view: View, state: NodeState) -> Counted:
        ready, wanted = view.workers()
        return Counted(state.pods, state.pods_failed, len(self._left_out.host_network(self._newest)), ready, wanted)

    def _sync(self, state: NodeState, errors: list[str], now: float) -> tuple[str, str]:
        if state.source.stale > STALE_SECONDS:
            return STALE, state.source.problem
        behind = errors[0] if errors else "" if state.in_force == state.generation else "the newest is on its way"
        behind = self._behind(behind, now)
        return (PENDING, behind) if behind else (SYNCED, "")
