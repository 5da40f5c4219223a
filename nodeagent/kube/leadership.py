"""Holds the Lease of the one writer, or waits for it: does what an Election says."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from nodeagent.kube.api import ApiError, Reason, WritableApi
from nodeagent.kube.records import RecordError, decode
from nodeagent.status.election import Election, Look, Seen, Wait, Write, lease_of, seen_of

log = logging.getLogger(__name__)

FORBIDDEN_FIX = "the agent's Role must allow get, create and update of leases in its namespace"


def micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Leadership:
    """`run` until cancelled, then `release`.  `leads` may turn false at any time: ask before every write."""

    def __init__(self, api: WritableApi, namespace: str, name: str, election: Election) -> None:
        self._api = api
        self._namespace, self._name = namespace, name
        self._election = election
        self._won = asyncio.Event()
        self._told = ""
        self.terms = 0

    @property
    def leads(self) -> bool:
        return self._election.leads(time.monotonic())

    @property
    def holder(self) -> str:
        """Who writes, as we saw it last."""
        return self._election.holder

    @property
    def request_seconds(self) -> float:
        """How long a write may take, so that its end is known before another writer begins."""
        return self._election.timing.request

    async def won(self) -> None:
        """Returns while we lead."""
        while not self.leads:
            self._won.clear()
            await self._won.wait()

    async def run(self) -> None:
        led = False
        while True:
            step = self._election.step(time.monotonic(), micro_time())
            led = self._tell_change(led)
            if isinstance(step, Wait):
                left = self._election.leads_for(time.monotonic())
                await asyncio.sleep(min(step.seconds, left) if left else step.seconds)
                continue
            await self._try(step)
            if self.leads:
                self._won.set()

    async def release(self) -> None:
        """Give the Lease up, so that another need not wait until it runs out."""
        step = self._election.release(time.monotonic(), micro_time())
        if step is not None:
            try:
                await self._write(step)
            except (ApiError, RecordError, TimeoutError) as error:
                log.info("the Lease %s is not given up, it runs out by itself: %s", self._name, error)

    async def _try(self, step: Look | Write) -> None:
        began = time.monotonic()
        try:
            if isinstance(step, Look):
                self._election.looked(time.monotonic(), await self._look())
            else:
                seen = await self._write(step)
                self._election.wrote(began, time.monotonic(), seen)
            self._told = ""
        except ApiError as error:
            self._election.failed(time.monotonic(), conflict=error.status in (404, 409))
            self._tell(error)
        except (RecordError, TimeoutError) as error:
            self._election.failed(time.monotonic())
            log.info("the Lease %s: %s", self._name, str(error) or "no answer in time")

    async def _look(self) -> Seen | None:
        try:
            asked = self._api.get(f"{self._path}/{self._name}", {})
            body = await asyncio.wait_for(asked, self._election.timing.request)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return seen_of(decode(body))

    async def _write(self, step: Write) -> Seen:
        lease = lease_of(step.record, self._namespace, self._name, step.version)
        method, path = ("PUT", f"{self._path}/{self._name}") if step.version else ("POST", self._path)
        return seen_of(decode(await self._api.send(method, path, lease, self._election.timing.request)))

    @property
    def _path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"

    def _tell_change(self, led: bool) -> bool:
        leads = self.leads
        if leads and not led:
            self.terms += 1
            log.info("we write the status of objects now (Lease %s/%s)", self._namespace, self._name)
        elif led and not leads:
            log.info("we do not write the status of objects any more")
        return leads

    def _tell(self, error: ApiError) -> None:
        """Once, until it works again.  A conflict is how it is found out that another was faster."""
        if error.status == 409 or self._told == error.failure.reason.value:
            return
        self._told = error.failure.reason.value
        fix = f"; {FORBIDDEN_FIX}" if error.failure.reason is Reason.FORBIDDEN else ""
        log.warning("the Lease %s/%s of the status writer: %s%s", self._namespace, self._name, error, fix)
