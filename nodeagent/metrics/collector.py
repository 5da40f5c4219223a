"""prometheus_client lives here: rows of the maps and values of the agent, as metric families.

Rendered in the agent's process and in a thread, so a scrape delays neither a request nor the
supervision of workers.  A custom collector builds every family anew from the maps: this process
holds no counter that a restart could set back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from nodeagent.core.buckets import BOUNDS_US, BUCKETS
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.maps import ConnectionRow, SeriesRow
from nodeagent.metrics import series
from nodeagent.metrics.reader import MapFill

PREFIX = "nodeagent_"

# The word of `outcome` for connections that were made; the others are in the families below.
MADE = {
    Outcome.DIRECT: "direct",
    Outcome.DIRECT_EXPIRED: "expired",
    Outcome.PROXIED: "proxied",
    Outcome.UNKNOWN: "unconfigured",
    Outcome.BYPASS_NO_WORKER: "bypass",
    Outcome.BYPASS_FULL: "bypass",
    Outcome.BYPASS_SOURCE_PORT: "bypass",
}
BYPASS = {
    Outcome.BYPASS_NO_WORKER: "no-worker",
    Outcome.BYPASS_FULL: "too-many-redirects",
    Outcome.BYPASS_SOURCE_PORT: "source-port",
}
REFUSED = {
    Outcome.REFUSED_NO_WORKER: "no-worker",
    Outcome.REFUSED_FULL: "too-many-redirects",
    Outcome.REFUSED_SOURCE_PORT: "source-port",
    Outcome.NO_ENDPOINT: "no-endpoint",
    Outcome.RATE_LIMITED: "rate-limited",
}
DENIED = {Outcome.DENIED: "connect", Outcome.DENIED_UNENFORCEABLE: "unenforceable"}
CALLER = ("source_workload", "source_workload_namespace")
# Families by caller: name, help, labels, and the outcomes that count with the word of each.
BY_CALLER: tuple[tuple[str, str, tuple[str, ...], Mapping[Outcome, str]], ...] = (
    ("bypass_connections", "Connections that should be meshed and went direct.", ("reason", *CALLER), BYPASS),
    ("refused_connections", "Connections refused, other than by an authorization.", ("reason", *CALLER), REFUSED),
    ("udp_sockets", "Connected UDP sockets of enrolled pods: passed, not meshed.", CALLER, {Outcome.UDP: ""}),
    ("audited_connections", "Connections that an AUDIT policy matched.", CALLER, {Outcome.AUDITED: ""}),
    (
        "connections_drained",
        "Direct connections ended because a new rule first covered them.",
        CALLER,
        {Outcome.DRAINED: ""},
    ),
    (
        "connections_unpoliced",
        "Connections found that are older than their pod's enrolment: no rule reaches them.",
        CALLER,
        {Outcome.UNPOLICED: ""},
    ),
    (
        "connections_cut",
        "Unpoliced connections ended because their namespace asks for it.",
        CALLER,
        {Outcome.CUT: ""},
    ),
)
UNCLASSIFIED = {Outcome.UNCLASSIFIED_DIRECT: "direct", Outcome.UNCLASSIFIED_REFUSED: "refused"}
UNCLASSIFIED_HELP = "Connections of pods that the agent had not classified yet: their caller is not known."
UNJUDGED = "Connections of callers that are not enrolled to a destination with a rule: they passed without judgement."


@dataclass(frozen=True, slots=True)
class Reading:
    """A value the agent or a worker reports of itself; `labels` is the same set for one name."""

    name: str  # without the prefix
    help: str
    value: float
    labels: Mapping[str, str]
    counter: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a scrape reads; all are called in the rendering thread, and must not touch what another thread uses."""

    requests: Callable[[], Iterable[SeriesRow]]
    connections: Callable[[], list[ConnectionRow]]
    fills: Callable[[], list[MapFill]]
    readings: Callable[[], Iterable[Reading]]


class NodeCollector(Collector):
    """Lives as long as the agent: what each family shows is remembered from scrape to scrape."""

    def __init__(self, sources: Sources, cap: int = series.SERIES_CAP) -> None:
        self._sources = sources
        self._shown: defaultdict[str, series.Shown] = defaultdict(lambda: series.Shown(cap))

    def describe(self) -> Iterable[Metric]:
        return []  # nothing is read at registration

    def collect(self) -> Iterator[Metric]:
        everything = list(self._sources.requests())
        tried = [row for row in everything if series.is_dry_run(row)]
        rows = [row for row in everything if not series.is_dry_run(row)]
        connections = self._sources.connections()
        shown = self._shown
        requests = series.requests_by_labels(rows, shown["requests"])
        durations = series.durations_by_labels(rows, BUCKETS, shown["durations"])
        tcp = series.connections_by_labels(connections, MADE, shown["tcp"])
        denied = _denied_totals(connections, rows, shown["denied"])
        yield from _request_families(requests)
        yield _duration_family(durations)
        yield from _tcp_families(tcp)
        yield _count_family("authz_denied", "Connections and requests denied by a policy.", denied)
        dry_run = series.dry_runs_by_labels(tried, connections, shown["dry_run"])
        yield _count_family("dry_run", "What policies in DryRun would have done.", dry_run)
        dropped = requests.dropped + durations.dropped + tcp.dropped + denied.dropped + dry_run.dropped
        for name, text, labels, words in BY_CALLER:
            totals = series.outcomes_by_labels(connections, labels, words, shown[name])
            dropped += totals.dropped
            yield _count_family(name, text, totals)
        unjudged = series.outcomes_by_callee(connections, Outcome.UNJUDGED, shown["unjudged"])
        dropped += unjudged.dropped
        yield _count_family("unjudged_connections", UNJUDGED, unjudged)
        yield _unclassified_family(connections)
        yield _gauge("series_over_cap", "Series that this scrape added to the overflow series.", dropped)
        yield from _fill_families(self._sources.fills())
        yield from _reading_families(self._sources.readings())


class MetricsRenderer:
    """Text in the format that the Accept header asks for: Prometheus 0.0.4 or OpenMetrics.  `render` in one thread."""

    def __init__(self, sources: Sources, cap: int = series.SERIES_CAP) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(NodeCollector(sources, cap))

    def format_of(self, accept: str) -> str:
        """The content type."""
        return choose_encoder(accept)[1]

    def render(self, accept: str) -> tuple[bytes, str]:
        encoder, content_type = choose_encoder(accept)
        return encoder(self._registry), content_type


def _request_families(totals: series.Totals) -> Iterator[Metric]:
    names = list(totals.labels)
    count = CounterMetricFamily(PREFIX + "requests", "HTTP requests answered or forwarded by a worker.", labels=names)
    received = CounterMetricFamily(PREFIX + "request_bytes", "Request body bytes.", labels=names)
    sent = CounterMetricFamily(PREFIX + "response_bytes", "Response body bytes.", labels=names)
    for key, (requests, request_bytes, response_bytes) in totals.items():
        count.add_metric(key, requests)
        received.add_metric(key, request_bytes)
        sent.add_metric(key, response_bytes)
    yield from (count, received, sent)


def _duration_family(totals: series.Totals) -> Metric:
    text = "Seconds from the request's first byte to the response's last."
    family = HistogramMetricFamily(PREFIX + "request_duration_seconds", text, labels=list(totals.labels))
    bounds = [*(repr(bound / 1e6) for bound in BOUNDS_US), "+Inf"]
    for key, values in totals.items():
        running, cumulative = 0, []
        for bound, count in zip(bounds, values[:-1], strict=True):
            running += count
            cumulative.append((bound, float(running)))
        family.add_metric(key, cumulative, values[-1] / 1e6)
    return family


def _tcp_families(totals: series.Totals) -> Iterator[Metric]:
    texts = {
        "tcp_connections_opened": "Connections of enrolled pods, counted at connect().",
        "tcp_connections_closed": "Connections of enrolled pods that were established and are closed.",
        "tcp_sent_bytes": "Payload bytes from the pod, counted at close.",
        "tcp_received_bytes": "Payload bytes to the pod, counted at close.",
        "tcp_connections_failed": "Connections that closed without being established.",
    }
    families = [CounterMetricFamily(PREFIX + name, text, labels=list(totals.labels)) for name, text in texts.items()]
    for key, values in totals.items():
        for family, value in zip(families, values, strict=True):
            family.add_metric(key, value)
    yield from families


def _count_family(name: str, text: str, totals: series.Totals) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=list(totals.labels))
    for key, (count,) in totals.items():
        family.add_metric(key, count)
    return family


def _denied_totals(
    connections: Iterable[ConnectionRow], requests: Iterable[SeriesRow], shown: series.Shown
) -> series.Totals:
    totals = series.Totals(("policy", "layer", *series.CALLER_AND_CALLEE), 1, shown)
    for row in connections:
        if row.outcome in DENIED:
            totals.add((row.rule, DENIED[row.outcome], *series.caller_and_callee(row)), (row.opened,))
    for request in requests:
        if request.labels.get("reason") == "denied":
            who = series.request_key(request.labels, series.CALLER_AND_CALLEE)
            totals.add((request.labels.get("policy", ""), "request", *who), (request.requests,))
    return totals


def _unclassified_family(connections: Iterable[ConnectionRow]) -> Metric:
    totals = dict.fromkeys(UNCLASSIFIED, 0)
    for row in connections:
        if row.outcome in totals:
            totals[row.outcome] += row.opened
    family = CounterMetricFamily(PREFIX + "unclassified_connections", UNCLASSIFIED_HELP, labels=["outcome"])
    for outcome, count in totals.items():
        family.add_metric([UNCLASSIFIED[outcome]], count)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _fill_families(fills: list[MapFill]) -> Iterator[Metric]:
    entries = GaugeMetricFamily(PREFIX + "bpf_map_entries", "Entries in a BPF map.", labels=["map"])
    limits = GaugeMetricFamily(PREFIX + "bpf_map_max_entries", "Room of a BPF map.", labels=["map"])
    for fill in fills:
        entries.add_metric([fill.name], fill.entries)
        limits.add_metric([fill.name], fill.max_entries)
    yield from (entries, limits)


def _reading_families(readings: Iterable[Reading]) -> Iterator[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for reading in readings:
        family = families.get(reading.name)
        if family is None:
            kind = CounterMetricFamily if reading.counter else GaugeMetricFamily
            family = families[reading.name] = kind(PREFIX + reading.name, reading.help, labels=list(reading.labels))
        family.add_metric(list(reading.labels.values()), reading.value)
    yield from families.values()
