"""Idle connections to endpoints, kept for reuse.

They are kept per (pod, endpoint, group), last in first out: the youngest is the least likely to be closed by its server
meanwhile.  One is reused only if nothing, no byte and no end, waits to be read on it.

A pod may have all of the room that others leave.  Once there is none, who has most gives way to who has less: so none
is left with less than its even part.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, TypeVar

from nodeagent.proxy.upstream import Key, Upstream, User

if TYPE_CHECKING:
    from nodeagent.proxy.engine import Engine
    from nodeagent.proxy.tenants import Tenant

KEEP_ALIVE_MARGIN = 1.0
"""Seconds taken off a server's announced Keep-Alive timeout: our clock starts when its response arrived here."""

Name = TypeVar("Name")


class Pool:
    """Idle upstream connections."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._idle: dict[Key, deque[Upstream]] = {}
        self._groups: dict[str, dict[Key, None]] = {}  # keys of `_idle` by group, but for group ""
        self._of_pod: dict[int, dict[Key, None]] = {}  # by pod, those at the front to give way first
        self.size = 0  # of each pod: `idle` of its Tenant

    def take(self, key: Key) -> Upstream | None:
        """The youngest idle connection that is still quiet."""
        idle = self._idle.get(key)
        now = self.engine.tick
        while idle:
            upstream = idle.pop()
            self.size -= 1
            upstream.tenant.idle -= 1
            if upstream.expires > now and upstream.stream.is_quiet:
                return upstream
            self.engine.stats.upstream_discarded += 1
            upstream.close()
        return None

    def open(self, key: Key, user: User) -> Upstream:
        """A new connection for `user`, which calls its `connect`."""
        self.engine.stats.upstream_opened += 1
        return Upstream(self, key, user)

    def keep(self, upstream: Upstream, idle_seconds: float) -> None:
        bounds = self.engine.bounds
        seconds = bounds.upstream_idle_seconds
        if idle_seconds >= 0:
            seconds = min(seconds, idle_seconds - KEEP_ALIVE_MARGIN)
        if upstream.stream.unsent:
            seconds = 0.0  # of a request that was answered early: the next one would queue behind it
        if seconds <= 0:
            upstream.close()
            return
        idle = self._idle.get(upstream.key)
        if idle is None:
            idle = self._add(upstream.key)
        if len(idle) >= bounds.upstream_idle_per_endpoint or (
            self.size >= bounds.upstream_idle_total and not self._another_gives_way(upstream.tenant)
        ):
            self.engine.stats.upstream_not_kept += 1
            upstream.close()
            return
        upstream.expires = self.engine.tick + seconds
        idle.append(upstream)
        self.size += 1
        upstream.tenant.idle += 1

    def _add(self, key: Key) -> deque[Upstream]:
        idle = self._idle[key] = deque()
        self._of_pod.setdefault(key[0], {})[key] = None
        if group := key[2]:
            self._groups.setdefault(group, {})[key] = None
        return idle

    def _another_gives_way(self, tenant: Tenant) -> bool:
        """The pod that has most closes one that was idle long; False when `tenant` has as many.

        Of its endpoints each gives one in turn.  It costs what closing the new one instead would have.
        """
        most = max(self.engine.tenants, key=_idle_of)
        if most.idle <= tenant.idle:
            return False
        keys = self._of_pod[most.cookie]
        while not self._idle[key := next(iter(keys))]:
            self._remove(key)
        keys[key] = keys.pop(key)
        self._close(self._idle[key].popleft())
        self.engine.stats.upstream_gave_way += 1
        return True

    def _close(self, upstream: Upstream) -> None:
        """It is out of its queue."""
        self.size -= 1
        upstream.tenant.idle -= 1
        upstream.close()

    def forget(self, upstream: Upstream, why: str) -> None:
        """An idle connection ended, or spoke without being asked."""
        idle = self._idle.get(upstream.key)
        if idle is not None and upstream in idle:
            idle.remove(upstream)
            self.size -= 1
            upstream.tenant.idle -= 1
        if why == "unsolicited":
            self.engine.stats.upstream_unsolicited += 1
        upstream.close()

    def close_idle_of(self, group: str) -> bool:
        """Close one idle connection of the group to make room under its cap; False when there is none."""
        keys = self._groups.get(group, {})
        while keys:
            key = next(reversed(keys))
            idle = self._idle[key]
            if idle:
                self._close(idle.popleft())
                return True
            self._remove(key)
        return False

    def _remove(self, key: Key) -> deque[Upstream]:
        """The queue of a key, which may have some yet."""
        _forget_key(self._of_pod, key[0], key)
        if key[2]:
            _forget_key(self._groups, key[2], key)
        return self._idle.pop(key)

    def expire(self, now: float, most: int) -> bool:
        """Close up to `most` connections that have been idle too long, oldest first; True when there may be more."""
        for key, idle in list(self._idle.items()):
            # A short Keep-Alive timeout may hide behind a longer one; `take` looks at each again.
            while idle and idle[0].expires <= now:
                if not most:
                    return True
                most -= 1
                self._close(idle.popleft())
            if not idle:
                self._remove(key)
        return False

    def forget_pod(self, cookie: int) -> None:
        """The pod is gone; so is the namespace its connections were made in."""
        for key in list(self._of_pod.get(cookie, ())):
            for upstream in self._remove(key):
                self._close(upstream)

    def close(self) -> None:
        for cookie in list(self._of_pod):
            self.forget_pod(cookie)


def _idle_of(tenant: Tenant) -> int:
    return tenant.idle


def _forget_key(index: dict[Name, dict[Key, None]], name: Name, key: Key) -> None:
    keys = index[name]
    del keys[key]
    if not keys:
        del index[name]
