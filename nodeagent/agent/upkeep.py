"""What the agent does every few seconds: looks for namespaces, lets pods go that left, deletes what is left over."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping

from nodeagent.agent import rhythm
from nodeagent.agent.ledger_sweep import LedgerSweep
from nodeagent.agent.parts import Parts
from nodeagent.core.model import Workload
from nodeagent.kernel.syscall import BpfError

log = logging.getLogger(__name__)

# A pod's namespace can come and go without a manifest changing.
NETNS_POLL_SECONDS = 1.0
# The finder tells of those that it found: here is only what it may have missed.
FOUND_POLL_SECONDS = 5.0
COLLECT_SECONDS = 1.0
SWEEP_SECONDS = 10.0
LET_GO_SECONDS = 5.0
# After the last renewal: longer than any restart or update, shorter than endpoints take to be others'.
ENDPOINTS_SECONDS = 60.0
RENEW_SECONDS = 5.0


async def watch_namespaces(parts: Parts) -> None:
    """Pods whose namespaces came or went, and what the maps did not take: the configuration is applied again."""
    due = 0.0
    while True:
        await rhythm.beat(NETNS_POLL_SECONDS)
        snapshot, now = parts.configuration.snapshot, time.monotonic()
        if snapshot is None:
            continue
        if parts.programmer.progress.errors or (now > due and not _are_current(parts, snapshot.workloads)):
            parts.configuration.again()
        if now > due and _are_found(parts):
            due = now + FOUND_POLL_SECONDS - NETNS_POLL_SECONDS / 2


def _are_current(parts: Parts, pods: Mapping[str, Workload]) -> bool:
    """A stat for each pod."""
    return parts.enrolment.is_current(pods) and parts.bystanders.is_current(pods)


def _are_found(parts: Parts) -> bool:
    """Every namespace is one that the finder holds.  What was refused, or failed, is to be tried again."""
    return parts.settings.manifests is None and not parts.enrolment.problems and not parts.bystanders.failing


async def let_go(parts: Parts) -> None:
    """Pods that left the mesh and run on lose their listeners once they have no proxied connection."""
    while True:
        await rhythm.beat(LET_GO_SECONDS)
        await parts.programmer.let_go()


async def collect(parts: Parts) -> None:
    """Delete what nothing refers to in maps and ledger, and redirects whose connection never arrived at a worker."""
    swept, renewed = time.monotonic(), -math.inf
    ledger = LedgerSweep(parts.fleet.ledger, parts.fleet.acknowledged, swept)
    told = ""
    while True:
        await rhythm.beat(COLLECT_SECONDS)
        now = time.monotonic()
        try:
            if now > renewed + RENEW_SECONDS - COLLECT_SECONDS / 2 and renew_endpoints(parts):
                renewed = now  # before what may fail each time, or they would end while we live
            parts.kernel.collect(now)
            parts.predecessors.forget_ended()
            if now - swept > SWEEP_SECONDS:
                swept = now
                parts.maps.sweep_originals(time.monotonic_ns())
                parts.connections.forget_some()
            if parts.lease.held:  # else another agent's policies count
                await ledger.look(now)
        except BpfError as error:
            # Garbage that stays is no reason to end: a full map is told when something has to be written.
            if str(error) != told:
                log.error("old map entries cannot be deleted, they take room until they can: %s", error)
            told = str(error)


def renew_endpoints(parts: Parts) -> bool:
    """While we live those in the maps are to be trusted; False = that is not ours to say (yet).

    Without an API server nobody but us serves a Service's address, so there they are for ever.
    """
    if not (parts.lease.held and parts.programmer.progress.synced):
        return False
    is_cluster = parts.settings.manifests is None
    parts.maps.trust_endpoints(time.monotonic_ns() + int(ENDPOINTS_SECONDS * 1e9) if is_cluster else 0)
    return True
