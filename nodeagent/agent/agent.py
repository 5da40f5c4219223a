"""The one assembly point: makes the parts, wires them, runs them until told to stop, takes them down in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nodeagent.admin.client import AdminClient
from nodeagent.admin.server import AdminServer
from nodeagent.agent import garbage, host_limits, own_cgroup, removal, succession, upkeep
from nodeagent.agent.admin_view import AdminView
from nodeagent.agent.bystanders import Bystanders
from nodeagent.agent.canary import Canary
from nodeagent.agent.configuration import Configuration
from nodeagent.agent.enrolment import Enrolment
from nodeagent.agent.fleet import Fleet
from nodeagent.agent.garbage import Freezer
from nodeagent.agent.lease import Lease, LeaseError, holder, locked_by
from nodeagent.agent.membership import Alone, Membership, membership
from nodeagent.agent.netns_child import LingeringChild
from nodeagent.agent.netns_connections import NetnsConnections
from nodeagent.agent.node_kernel import ChildDiag, MapKernel, guard
from nodeagent.agent.object_source import api_client, object_source
from nodeagent.agent.observers import Observers
from nodeagent.agent.on_loop import on_loop
from nodeagent.agent.parts import Parts
from nodeagent.agent.pod_finder import PodFinder
from nodeagent.agent.predecessors import Predecessors
from nodeagent.agent.programming import Programmer
from nodeagent.agent.readings import readings
from nodeagent.agent.reporting import reporting_of
from nodeagent.agent.settings import Settings, parse_address
from nodeagent.agent.succession import Standby
from nodeagent.config.locality import Locality
from nodeagent.core.differences import Selection
from nodeagent.core.model import Snapshot, Workload
from nodeagent.kernel import bytecode_file, cgroups
from nodeagent.kernel.bytecode import CompileError
from nodeagent.kernel.bytecode_file import BytecodeFileError
from nodeagent.kernel.instance import Instance, Programs
from nodeagent.kernel.ledger_keeper import LedgerKeeper
from nodeagent.kernel.loader import KernelError
from nodeagent.kernel.syscall import BpfError
from nodeagent.kube.relay import Relay
from nodeagent.metrics import reader
from nodeagent.metrics.collector import MetricsRenderer, Sources

log = logging.getLogger(__name__)

KERNEL_ERRORS = (KernelError, CompileError, BytecodeFileError, cgroups.NoCgroup2Error, OSError)

HANDOVER_SECONDS = 15.0


class AgentError(RuntimeError):
    """The agent cannot start or go on; the text says what happened, why it matters and what to do."""


def run_agent(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.  Raises AgentError."""
    garbage.one_arena()
    if asyncio.run(Agent(settings).run()):
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # ourselves, as we were started


class Agent:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told = asyncio.Event()  # by a signal
        self._stop = asyncio.Event()  # by a signal or a successor
        self._born = _born(settings.stand_by) if settings.stand_by else 0.0
        self._standby = Standby(settings.lease_file, self._born) if settings.stand_by else None
        self._permitted = asyncio.Event()  # we hold the lease and our programs are attached: maps may be written
        self._warm = asyncio.Event()  # workers know the first snapshot, which waits to be written to the maps
        self._exempted = False  # our cgroup was not exempt before
        self._handed_over = False
        self._freezer = Freezer()
        self._membership: Membership = Alone()
        self._api = api_client(settings)
        self._ends = False  # nobody comes after us
        self._started = time.monotonic()

    # ---- life ----

    async def run(self) -> bool:
        """Until told to stop: False.  True: it is our turn again, and the process is to begin anew."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        if self._standby and self._standby.is_turn_of_another():
            return await self._stand_by(self._standby)
        parts = await self._assemble()
        try:
            await self._serve(parts)
        except BaseException:
            # Unplanned: the hooks stay, so that each namespace's fail mode decides until we are restarted.
            await parts.fleet.stop(0)
            if self._exempted and not parts.lease.held:  # a takeover that failed leaves the old agent as it was
                parts.maps.end_exemption(parts.cgroup.id)
            raise
        if self._standby and self._handed_over:
            return await self._stand_by(self._standby, parts)
        await self._take_down(parts)
        return False

    def _on_signal(self) -> None:
        self._told.set()
        self._stop.set()

    async def _stand_by(self, standby: Standby, parts: Parts | None = None) -> bool:
        """True: begin anew.  `parts`: of an agent that has just been taken over."""
        async with standby.answering(*parse_address(self._settings.metrics_address)):
            if parts is not None:
                await self._take_down(parts)
            return await standby.until_needed(self._told)

    async def _assemble(self) -> Parts:
        settings = self._settings
        settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        cgroup = (settings.cgroup or cgroups.root()).resolve()
        instance = Instance(cgroup, settings.bpffs)
        with _kernel_errors():
            instance.make_directory()
        lease = self._take_lease()
        own = _settle(cgroup, settings)
        programs = await self._prepare(instance)
        parts = self._wire(lease, instance, programs, own)
        # before a listener of ours is entered: from then on our workers connect inside pods
        self._exempted = parts.maps.exempt(own.id)
        if lease.held:
            await self._attach(parts)
        self._freezer.freeze()
        return parts

    def _take_lease(self) -> Lease:
        path, bpffs = self._settings.lease_file, self._settings.bpffs
        lease = Lease(path, bpffs, self._born)
        if lease.try_acquire():
            return lease
        if lease.pins_taken:
            raise AgentError(
                f"an agent with pid {locked_by(bpffs)} already works with the pins in {bpffs}, from another --run-dir "
                "than ours: two would undo each other's work. Choose another --bpffs, or name its --run-dir (with "
                "--takeover, to replace it)"
            )
        if not self._settings.takeover:
            raise AgentError(
                f"an agent with pid {holder(path)} already runs with {self._settings.run_dir}: two would undo each "
                "other's work. Stop it, choose another --run-dir, or replace it without a gap: --takeover"
            )
        return lease

    async def _prepare(self, instance: Instance) -> Programs:
        """Compile and load.  What is refused here leaves no directory behind that was not there."""
        try:
            with _kernel_errors():
                return await asyncio.to_thread(_prepare, instance, self._settings.bytecode)
        except AgentError:
            with contextlib.suppress(OSError):  # not empty: there is an instance
                instance.layout.bpffs.rmdir()
            raise

    async def _attach(self, parts: Parts) -> None:
        """Milliseconds.  With no pod in the maps the hooks pass everything, so early is safe."""
        with _kernel_errors(), parts.programs:
            parts.maps.exempt(parts.cgroup.id)  # again: an old agent in the same cgroup may have ended it
            await asyncio.to_thread(parts.instance.activate, parts.programs)
        self._permitted.set()

    async def _may_write(self) -> None:
        self._warm.set()
        await self._permitted.wait()

    def _wire(self, lease: Lease, instance: Instance, programs: Programs, own: own_cgroup.OwnCgroup) -> Parts:
        settings = self._settings
        maps = instance.open_maps()
        bounds = host_limits.worker_bounds(settings.workers, own.path, settings.memory_bytes)
        locks = instance.layout.workers
        relay = Relay()
        fleet = Fleet(maps, LedgerKeeper(maps, programs.fds), locks, settings.workers, bounds)
        observers = Observers(fleet.observe)
        fleet.on_record = observers.publish
        finder = PodFinder(instance.cgroup, settings.kubepods)
        netns_child = LingeringChild()
        enrolment = Enrolment(netns_child.inspect, found=finder)
        bystanders = Bystanders(netns_child.inspect, finder)
        here: Selection[str, Workload] = Selection(lambda workload: workload.is_here)
        kernel = MapKernel(
            maps, lambda snapshot: guard(finder.kubepods, settings.unclassified, here.of(snapshot.workloads).values())
        )
        connections = NetnsConnections(
            ChildDiag(netns_child),
            maps.dialled_by_pods(),
            instance.others_come_last,
            lambda: maps.exempt_cgroups() | {own.id},
            kernel.count,
        )
        programmer = Programmer(fleet, kernel, connections, enrolment, bystanders, self._may_write)
        return Parts(
            settings=settings,
            lease=lease,
            instance=instance,
            programs=programs,
            cgroup=own,
            maps=maps,
            predecessors=Predecessors(maps, locks, own.id, lambda: listening(fleet), fleet.reap),
            observers=observers,
            fleet=fleet,
            finder=finder,
            netns_child=netns_child,
            enrolment=enrolment,
            bystanders=bystanders,
            connections=connections,
            canary=Canary(fleet, maps, own_cgroup.for_canary(own.path, instance.cgroup, settings.bpffs)),
            programmer=programmer,
            kernel=kernel,
            configuration=Configuration(
                object_source(settings, self._api, relay),
                refuse_broken=settings.refuse_broken,
                allow_faults=settings.allow_fault_injection,
                kube_proxy=settings.manifests is None,
                here=Locality(settings.node_name, settings.zone),
            ),
            reporting=reporting_of(settings, self._api, relay),
        )

    async def _serve(self, parts: Parts) -> None:
        view = AdminView(parts, self._started, lambda: self._hand_over(parts))
        self._membership = membership(self._settings, self._api, lambda: not view.ready())
        server = AdminServer(view, MetricsRenderer(sources(parts, view, asyncio.get_running_loop())))
        parts.fleet.start()
        await parts.finder.scan()  # pods that run already are enrolled with the first configuration
        work = [
            parts.fleet.supervisor.run(),
            self._configure(parts),
            parts.programmer.settler.run(),
            upkeep.watch_namespaces(parts),
            upkeep.let_go(parts),
            parts.finder.run(parts.configuration.again, parts.netns_child.expect),
            upkeep.collect(parts),
            parts.canary.run(self._permitted),
            self._membership.run(),
            *([parts.reporting.run(view, self._permitted)] if parts.reporting else []),
        ]
        running = [asyncio.ensure_future(coroutine) for coroutine in work]
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await self._take_over(parts)
            await self._listen(server)
            done, _ = await asyncio.wait([stopped, *running], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # whichever ended although it should not tells why
            await self._detach(parts)
        finally:
            for task in (stopped, *running):
                task.cancel()
            await asyncio.gather(stopped, *running, return_exceptions=True)
            if parts.reporting:
                await parts.reporting.end(leaves=not self._handed_over)
            if self._api:
                await self._api.close()
            await server.stop()
            await parts.canary.close()
            await parts.netns_child.close()
            parts.finder.close()

    async def _listen(self, server: AdminServer) -> None:
        settings = self._settings
        host, port = parse_address(settings.metrics_address)
        try:
            await server.start(settings.admin_socket, host, port, HANDOVER_SECONDS if settings.takeover else 0)
        except OSError as error:
            raise AgentError(
                f"cannot listen on --metrics-address {settings.metrics_address}: {error.strerror}. Prometheus could "
                "not scrape this node; end what listens there or choose another address"
            ) from error

    async def _detach(self, parts: Parts) -> None:
        """Before anything else that a stop does and that may take time: new connections go direct at once."""
        self._ends = not self._handed_over and await self._membership.is_our_end()
        if self._ends or not (self._handed_over or self._settings.keep_attached):
            parts.instance.detach_links()

    async def _take_down(self, parts: Parts) -> None:
        """Graceful: the hooks are detached by now, or stay; the workers finish what they have."""
        await parts.fleet.stop(self._settings.drain_seconds)
        if not self._handed_over:  # else the successor does it, which may be in the same cgroup
            parts.maps.end_exemption(parts.cgroup.id)
        own_cgroup.leave(parts.cgroup)
        if self._ends:
            log.info("our DaemonSet %s is gone: nothing stays on this node", self._settings.daemonset)
            removal.remove(self._settings.bpffs, [self._settings.run_dir, *removal.last_good(self._settings.state_dir)])
        parts.lease.release()
        log.info("stopped")

    # ---- takeover ----

    async def _take_over(self, parts: Parts) -> None:
        """Warm beside the old agent, then take its lease and swap the programs.

        All that takes time or can fail comes before the old agent is asked to go.
        """
        if parts.lease.held:
            return
        await self._warm_up(parts)
        await AdminClient(self._settings.admin_socket).post_async("/v1/handover")
        try:
            await parts.lease.wait(HANDOVER_SECONDS)
        except LeaseError as error:
            raise AgentError(str(error)) from error
        await self._attach(parts)

    async def _warm_up(self, parts: Parts) -> None:
        """Until every worker knows the configuration and listens in every pod."""
        try:
            await asyncio.wait_for(self._warm.wait(), HANDOVER_SECONDS)
        except TimeoutError:
            raise AgentError("the new workers did not become ready; the old agent keeps running") from None
        pods = {pod.cookie for pod in parts.enrolment.pods.values()}
        if not await parts.fleet.wait_settled(pods, HANDOVER_SECONDS):
            raise AgentError("the new workers do not listen in every pod; the old agent keeps running")

    def _hand_over(self, parts: Parts) -> None:
        """A successor is warm: give it the lease, let our workers finish, leave the hooks alone."""
        self._handed_over = True
        self._permitted.clear()
        parts.lease.release()
        self._stop.set()

    # ---- work ----

    async def _configure(self, parts: Parts) -> None:
        async with contextlib.aclosing(parts.configuration.snapshots()) as snapshots:  # its source ends with it
            async for snapshot in snapshots:
                self._freezer.freeze()  # before the first is sent and written, which takes as much again as reading it
                await self._apply(parts, snapshot)
                self._freezer.freeze()

    async def _apply(self, parts: Parts, snapshot: Snapshot) -> None:
        if parts.reporting:
            parts.reporting.compiled(snapshot.generation, parts.configuration)
        try:
            await parts.programmer.apply(snapshot)
            parts.programmer.progress.seconds = time.monotonic() - parts.configuration.noticed
            parts.programmer.progress.since = time.time()
        except BpfError as error:
            parts.programmer.failed(snapshot, error)
        if parts.reporting:
            parts.reporting.applied()


def _born(path: Path) -> float:
    try:
        return succession.birth(path)
    except OSError as error:
        raise AgentError(
            f"cannot write --stand-by {path}: {error.strerror}. Without our pod's age a container that is started "
            "again would take over from its successor. Name a file on a volume of the pod's own, as an emptyDir"
        ) from error


def _prepare(instance: Instance, bytecode: Path | None) -> Programs:
    """Of programs compiled elsewhere, or compile them here."""
    code = None if bytecode is None else bytecode_file.load(bytecode, bytecode_file.Stamp.here())
    return instance.prepare(bytecode=code)


@contextlib.contextmanager
def _kernel_errors() -> Iterator[None]:
    try:
        yield
    except KERNEL_ERRORS as error:
        raise AgentError(str(error)) from error


def listening(fleet: Fleet) -> dict[int, set[tuple[int, int]]]:
    """Our living workers: number -> (netns cookie, family) where it listens."""
    return {worker.index: set(worker.report.listening) for worker in fleet.supervisor.workers}


def _settle(cgroup: Path, settings: Settings) -> own_cgroup.OwnCgroup:
    try:
        return own_cgroup.settle(cgroup, settings.bpffs)
    except OSError as error:
        raise AgentError(
            f"cannot be in a cgroup of our own ({error.filename or cgroup}: {error.strerror}). The hooks tell our own "
            "connections from the pods' by it. Start the agent in a writable cgroup2 directory of its own; in a "
            "container, mount the node's cgroup2 hierarchy (hostPath /sys/fs/cgroup)"
        ) from error


def sources(parts: Parts, view: AdminView, loop: asyncio.AbstractEventLoop) -> Sources:
    """What a scrape reads, in its thread: maps by their pins, and on the loop what the agent itself knows."""
    pins = parts.instance.layout
    return Sources(
        requests=lambda: reader.read_requests(pins),
        connections=lambda: reader.read_connections(pins),
        fills=reader.FillReader(pins).read,
        readings=on_loop(loop, lambda: list(readings(view.facts(), parts.fleet.supervisor.workers))),
    )
