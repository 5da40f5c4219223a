"""Agents of several pods on one node, as while a DaemonSet surges: the youngest pod's works, the others stand by.

A container that ends is started again by its kubelet, and an agent that was taken over would take over in turn.  So it
stays, without hooks or workers, until its pod is deleted.  If it ends all the same, its pod's age tells the next one
that it is not its turn.  Where nobody works any more, it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

from nodeagent.admin.server import StandbyServer
from nodeagent.agent.lease import holder, holder_born, locked_by

log = logging.getLogger(__name__)

CHECK_SECONDS = 1.0
# A successor that crashed may be back by then, and is the better one; fail mode applies meanwhile.
UNHELD_SECONDS = 5.0


def birth(path: Path) -> float:
    """Unix time at which an agent first started with this file, in this container or one before it in the same pod."""
    with contextlib.suppress(FileNotFoundError, ValueError):  # a first start; one that was cut short while it wrote
        return float(path.read_text())
    born = time.time()
    path.write_text(str(born))
    return born


class Standby:
    """Implements admin.api.Health for an agent whose lease another one has."""

    def __init__(self, lease_file: Path, born: float) -> None:
        self._lease_file = lease_file
        self._born = born

    def is_turn_of_another(self) -> bool:
        """A younger pod's agent works here."""
        return self._is_held() and holder_born(self._lease_file) > self._born

    def _is_held(self) -> bool:
        return self._lease_file.exists() and locked_by(self._lease_file) != 0

    def live(self) -> str:
        return ""

    def ready(self) -> str:
        return f"the agent of a younger pod works on this node (pid {holder(self._lease_file)}); this one stands by"

    @contextlib.asynccontextmanager
    async def answering(self, host: str, port: int) -> AsyncIterator[None]:
        """Probes get an answer meanwhile: a container without one is ended and started again."""
        server = StandbyServer(self)
        try:
            await server.start(host, port)
        except OSError as error:  # what is left to do must be done all the same
            log.error("cannot listen on --metrics-address %s port %d, so probes fail: %s", host, port, error)
        try:
            yield
        finally:
            await server.stop()

    async def until_needed(self, stop: asyncio.Event) -> bool:
        """True once nobody has held the lease for a while; False when told to stop."""
        log.info("%s until its pod is deleted", self.ready())
        loop = asyncio.get_running_loop()
        held = loop.time()
        while not stop.is_set():
            if self._is_held():
                held = loop.time()
            elif loop.time() - held > UNHELD_SECONDS:
                log.warning("no agent has worked on this node for %.0f s: this one begins anew", UNHELD_SECONDS)
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), CHECK_SECONDS)
        return False
