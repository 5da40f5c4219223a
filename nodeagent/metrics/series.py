"""Rows of the counter maps, added up into series and kept under a cap: pure, no library.

A counter must never fall.  So a dead worker's rows are still read, labels that two workers share
are added, and what does not fit under the cap is added to one overflow series instead of dropped.
Which series are shown of their own is remembered: one that was shown never gives way to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodeagent.core.dry_run import WOULD_DENY, WOULD_LIMIT
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.maps import ConnectionRow, SeriesRow

# A scrape of 5,000 request series is about 100,000 lines; more has hurt every Prometheus we know of.
SERIES_CAP = 5000
OVERFLOW = "overflow"

CALLEE = ("destination_service", "destination_service_namespace")
CALLER_AND_CALLEE = ("source_workload", "source_workload_namespace", *CALLEE)
REQUEST_LABELS = (
    "reporter",
    *CALLER_AND_CALLEE,
    "request_protocol",
    "request_method",
    "response_code",
    "response_flags",
    "route",
    "rule",
    "reason",
)
# Histograms cost 18 lines a series: they leave out what the request counter already tells apart.
DURATION_LABELS = ("reporter", *CALLER_AND_CALLEE, "response_code", "route", "rule")
TCP_LABELS = ("reporter", *CALLER_AND_CALLEE, "outcome")
DRY_RUN_LABELS = (*CALLER_AND_CALLEE, "policy", "outcome")
WOULD = "would-"
DRY_RUN_WORDS = {Outcome.WOULD_DENY: WOULD_DENY, Outcome.WOULD_RATE_LIMIT: WOULD_LIMIT}
"""Beside the outcome that a connection really had."""

Key = tuple[str, ...]


def request_key(labels: Mapping[str, str], names: tuple[str, ...]) -> Key:
    """The values of `names`; a row without labels is its worker's overflow slot."""
    if not labels:
        return (OVERFLOW,) * len(names)
    fixed = {"reporter": "source", "request_protocol": "http"}
    return tuple(fixed.get(name) or str(labels.get(name, "")) for name in names)


def is_dry_run(row: SeriesRow) -> bool:
    """Not requests, but what a policy in DryRun would have done to some that have a series of their own."""
    return row.labels.get("reason", "").startswith(WOULD)


def split_workload(text: str) -> tuple[str, str]:
    """Turn shop/web/web-sa into (web, shop)."""
    namespace, _, rest = text.partition("/")
    return rest.partition("/")[0], namespace


def split_destination(text: str) -> tuple[str, str]:
    """Turn shop/cart:80 into (shop/cart:80, shop); an address belongs to no namespace."""
    namespace, slash, _ = text.partition("/")
    return text, namespace if slash else ""


def caller_and_callee(row: ConnectionRow) -> tuple[str, str, str, str]:
    return (*split_workload(row.workload), *split_destination(row.destination))


class Shown:
    """The keys that one family shows, at most `cap`, from its first scrape on."""

    def __init__(self, cap: int = SERIES_CAP) -> None:
        self._cap = cap
        self._keys: set[Key] = set()

    def admits(self, key: Key) -> bool:
        if key in self._keys:
            return True
        if len(self._keys) >= self._cap:
            return False
        self._keys.add(key)
        return True


class Totals:
    """Sums of equal keys, each a fixed number of values; a key that `shown` does not admit joins the overflow key."""

    def __init__(self, labels: tuple[str, ...], width: int, shown: Shown) -> None:
        self.labels = labels
        self.dropped = 0
        self._width = width
        self._shown = shown
        self._sums: dict[Key, list[int]] = {}

    def add(self, key: Key, values: Iterable[int]) -> None:
        sums = self._sums.get(key)
        if sums is None:
            sums = self._new(key)
        for position, value in enumerate(values):
            sums[position] += value

    def _new(self, key: Key) -> list[int]:
        overflow = (OVERFLOW,) * len(self.labels)
        if key != overflow and not self._shown.admits(key):
            self.dropped += 1
            key = overflow
        return self._sums.setdefault(key, [0] * self._width)

    def items(self) -> Iterable[tuple[Key, list[int]]]:
        return self._sums.items()


def requests_by_labels(rows: Iterable[SeriesRow], shown: Shown) -> Totals:
    """Values: requests, request bytes, response bytes."""
    totals = Totals(REQUEST_LABELS, 3, shown)
    for row in rows:
        totals.add(request_key(row.labels, REQUEST_LABELS), (row.requests, row.request_bytes, row.response_bytes))
    return totals


def durations_by_labels(rows: Iterable[SeriesRow], buckets: int, shown: Shown) -> Totals:
    """Values: one count per bucket, then the sum in microseconds."""
    totals = Totals(DURATION_LABELS, buckets + 1, shown)
    for row in rows:
        totals.add(request_key(row.labels, DURATION_LABELS), (*row.buckets, row.duration_us))
    return totals


def outcomes_by_labels(
    rows: Iterable[ConnectionRow], labels: tuple[str, ...], words: Mapping[Outcome, str], shown: Shown
) -> Totals:
    """Connections by caller, for the outcomes in `words`; with a label more than the caller's, its word comes first."""
    totals = Totals(labels, 1, shown)
    for row in rows:
        word = words.get(row.outcome)
        if word is not None:
            key = (word, *split_workload(row.workload))
            totals.add(key[-len(labels) :], (row.opened,))
    return totals


def dry_runs_by_labels(rows: Iterable[SeriesRow], connections: Iterable[ConnectionRow], shown: Shown) -> Totals:
    """What policies in DryRun would have done: to requests (`rows` of dry runs only), and to connections."""
    totals = Totals(DRY_RUN_LABELS, 1, shown)
    for row in rows:
        key = (*request_key(row.labels, CALLER_AND_CALLEE), row.labels.get("policy", ""), row.labels["reason"])
        totals.add(key, (row.requests,))
    for connection in connections:
        word = DRY_RUN_WORDS.get(connection.outcome)
        if word is not None:
            totals.add((*caller_and_callee(connection), connection.rule, word), (connection.opened,))
    return totals


def outcomes_by_callee(rows: Iterable[ConnectionRow], outcome: Outcome, shown: Shown) -> Totals:
    """Connections of one outcome by where they went: for callers that nobody can name."""
    totals = Totals(CALLEE, 1, shown)
    for row in rows:
        if row.outcome == outcome:
            totals.add(split_destination(row.destination), (row.opened,))
    return totals


def connections_by_labels(rows: Iterable[ConnectionRow], words: Mapping[Outcome, str], shown: Shown) -> Totals:
    """Values: opened, closed, sent, received, failed; `words` names the outcomes to include."""
    totals = Totals(TCP_LABELS, 5, shown)
    for row in rows:
        word = words.get(row.outcome)
        if word is not None:
            key = ("source", *caller_and_callee(row), word)
            totals.add(key, (row.opened, row.closed, row.tx_bytes, row.rx_bytes, row.failed))
    return totals
