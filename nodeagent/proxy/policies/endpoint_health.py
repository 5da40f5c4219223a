"""Outlier detection of one backend: what all workers of the node know of its endpoints.

The state is a record of the ledger, computed by `nodeagent.core.outlier` and replaced by compare-and-swap, so that an
ejection by one worker holds for all at once and exactly one of them sends the probe.  The usual request costs one
look at the ledger's pulse; only trouble, and its end, is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nodeagent.core import health, outlier, tallies
from nodeagent.core.health import Health
from nodeagent.core.ledger import Ledger
from nodeagent.core.ledger_keys import outlier_key, tally_key
from nodeagent.core.model import Endpoint
from nodeagent.core.outlier import MS, Kind
from nodeagent.core.traffic import OutlierDetection

_SWAP_TRIES = 64
"""Another worker got ahead each time: this event is given up and counted; the next of its kind will be noted."""

Change = Callable[[Health], Health]
Chosen = tuple[Endpoint, int]
"""Where a try goes, and the name of the probe that it is (0 = none)."""


class EndpointHealth:
    """`names`: of policy and backend, what the records are found by.  Times are ns of one clock for all workers."""

    def __init__(
        self, ledger: Ledger, names: tuple[str, ...], config: OutlierDetection, endpoints: Sequence[Endpoint], now: int
    ) -> None:
        self._ledger = ledger
        self._record_key = outlier_key(names)
        self._tally_key = tally_key(names)
        self._pulse = -1
        self._version = 0
        self._state = health.HEALTHY
        self._barred = health.barred(self._state, 0)
        self._unfit: tuple[int, ...] = ()
        self.tallies: dict[Endpoint, list[int]] = {}  # requests and successes that no record holds yet
        self.calm_at = -1  # the pulse at which no endpoint was in trouble; -1 = that is not known
        self._keys: dict[Endpoint, int] = {}
        self.ejected = 0  # by this worker, and `lost` what it could not write, since these were taken last
        self.lost = 0
        self.update(config, endpoints, now)

    def update(self, config: OutlierDetection, endpoints: Sequence[Endpoint], now: int) -> None:
        """Of fewer endpoints fewer may be out."""
        self._config = config
        known = self._keys
        self._keys = {one: known.get(one) or health.endpoint_key(one.address, one.port) for one in endpoints}
        self._endpoints = endpoints
        self._places = {self._keys[one]: place for place, one in enumerate(endpoints)}
        self._all = frozenset(self._places)
        counted = dict(self.tallies)
        self.tallies.clear()
        if config.success_rate is not None:
            self.tallies.update((one, counted.get(one) or [0, 0]) for one in endpoints)
        self._pulse = self.calm_at = -1
        self._change(lambda state: outlier.within_limit(state, config, now, self._all))

    def _note_success(self, endpoint: Endpoint) -> None:
        counts = self.tallies.get(endpoint)
        if counts is not None:
            counts[0] += 1
            counts[1] += 1

    # ---- before a request ----

    def unfit(self, now: int) -> tuple[int, ...]:
        """Indexes of the endpoints that nothing is sent to now."""
        if self._ledger.pulse != self._pulse or now >= self._barred.until:
            barred = self._barred = health.barred(self._refresh(), now)
            out = barred.endpoints | barred.due
            self._unfit = tuple(sorted(self._places[key] for key in out if key in self._places))
        return self._unfit

    def take_probe(self, now: int) -> Chosen | None:
        """An endpoint whose time is over, for the one request that finds out whether it serves again; after `unfit`."""
        for key in self._barred.due:
            place = self._places.get(key)
            if place is not None and (name := self._probe(key, now)):
                return self._endpoints[place], name
        return None

    def take_probe_of(self, endpoint: Endpoint, now: int) -> int:
        """The name of the probe that a request to this endpoint is; 0 when none is due."""
        key = self._keys.get(endpoint)
        return self._probe(key, now) if key is not None and key in self._refresh().troubled else 0

    def _probe(self, key: int, now: int) -> int:
        """0 when none is due, or another worker has it."""
        probe = outlier.take_probe(self._refresh(), self._config, key, now)
        return probe.name if probe is not None and self._swap(probe.state) else 0

    # ---- after it ----

    def succeeded(self, endpoint: Endpoint, now: int, probe: int) -> None:
        key = self._keys.get(endpoint)
        if key is not None:
            self._note_success(endpoint)
            if key in self._refresh().troubled:
                self._change(lambda state: outlier.after_success(state, self._config, key, now, probe))

    def failed(self, endpoint: Endpoint, kind: Kind, now: int, probe: int) -> bool:
        """True when this ejected it."""
        key = self._keys.get(endpoint)
        if key is None:
            return False
        if (counts := self.tallies.get(endpoint)) is not None:
            counts[0] += 1
        config = self._config
        return bool(self._eject(lambda state: outlier.after_failure(state, config, key, kind, now, self._all, probe)))

    def unanswered(self, endpoint: Endpoint, now: int, probe: int) -> None:
        """The probe ended without an outcome."""
        key = self._keys.get(endpoint)
        if key is not None:
            self._change(lambda state: outlier.give_back_probe(state, key, now, probe))

    # ---- success rates ----

    def tick(self, now: int) -> int:
        """Share what was counted, and judge the interval if it is over.  How many endpoints that ejected."""
        finished = self._share(now) if self._config.success_rate is not None else None
        if finished is None:
            return 0
        config = self._config
        return self._eject(lambda state: outlier.evaluate_success_rate(state, config, finished, now, self._all))

    def taken(self) -> tuple[int, int]:
        """(ejections, events lost) since the last call."""
        found, self.ejected, self.lost = (self.ejected, self.lost), 0, 0
        return found

    @property
    def out(self) -> int:
        """How many endpoints got nothing when a request was here last."""
        return len(self._unfit)

    def _share(self, now: int) -> dict[int, tuple[int, int]] | None:
        """Add to the shared tallies; those of an interval that is over go to the one worker that takes them out."""
        for _ in range(_SWAP_TRIES):
            version, content = self._ledger.read(self._tally_key)
            shared = tallies.unpack(content)
            over = shared.is_over(self._config.interval * MS, now)
            counted = {self._keys[one]: (counts[0], counts[1]) for one, counts in self.tallies.items() if counts[0]}
            if not over and not counted:
                return None
            summed = shared.added(counted, now)
            after = tallies.Tallies(started=now) if over else summed
            if self._ledger.swap(self._tally_key, version, tallies.pack(after)):
                for counts in self.tallies.values():
                    counts[0] = counts[1] = 0
                return dict(summed.counts) if over else None
        self.lost += 1
        return None

    # ---- the record ----

    def _refresh(self) -> Health:
        pulse = self._ledger.pulse
        if pulse != self._pulse:
            self._version, content = self._ledger.read(self._record_key)
            self._state = health.unpack(content)
            self._pulse = pulse
            self.calm_at = -1 if self._state.troubled else pulse
            self._barred = self._barred._replace(until=0)  # what pickers go by is older
        return self._state

    def _swap(self, state: Health) -> bool:
        done = self._ledger.swap(self._record_key, self._version, health.pack(state))
        self._pulse = self.calm_at = -1  # either way what is there now is not what was read
        return done

    def _change(self, change: Change) -> tuple[Health, Health]:
        """(before, after), the same where nothing was written."""
        for _ in range(_SWAP_TRIES):
            before = self._refresh()
            after = change(before)
            if after is before or self._swap(after):
                return before, after
        self.lost += 1
        return before, before

    def _eject(self, change: Change) -> int:
        """How many endpoints that took out, by this worker and no other."""
        before, after = self._change(change)
        ejected = len(health.out(after) - health.out(before)) if after is not before else 0
        self.ejected += ejected
        return ejected
