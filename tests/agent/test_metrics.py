from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.maps import ConnectionRow, SeriesRow
from nodeagent.metrics.collector import MetricsRenderer, Reading, Sources
from nodeagent.metrics.reader import MapFill

CAP = 3
BY_CALLER = {
    "bypass_connections": Outcome.BYPASS_NO_WORKER,
    "refused_connections": Outcome.NO_ENDPOINT,
    "udp_sockets": Outcome.UDP,
    "audited_connections": Outcome.AUDITED,
    "connections_drained": Outcome.DRAINED,
    "connections_unpoliced": Outcome.UNPOLICED,
    "connections_cut": Outcome.CUT,
}


LABELS = {
    "source_workload": "web",
    "source_workload_namespace": "shop",
    "destination_service": "shop/cart:80",
    "destination_service_namespace": "shop",
}


def requests(reason: str, count: int, policy: str = "", workload: str = "web", worker: int = 0) -> SeriesRow:
    labels = {**LABELS, "source_workload": workload, "reason": reason, "policy": policy}
    return SeriesRow(worker, labels, count, 0, 0, 0, (count, *[0] * 15))


def row(workload: str, outcome: Outcome, opened: int = 1, rule: str = "") -> ConnectionRow:
    return ConnectionRow(f"shop/{workload}/sa", "shop/cart:80", outcome, rule, opened, 0, 0, 0, 0)


@dataclass
class Node:
    """What scrapes read."""

    rows: list[ConnectionRow] = field(default_factory=list)
    requests: list[SeriesRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        sources = Sources(self._requests, self._connections, self._fills, self._readings)
        self.renderer = MetricsRenderer(sources, CAP)

    def _requests(self) -> list[SeriesRow]:
        return self.requests

    def _connections(self) -> list[ConnectionRow]:
        return self.rows

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        text = self.renderer.render("")[0].decode()
        found = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return [(one.labels, one.value) for one in found if one.name == f"nodeagent_{name}"]

    def _fills(self) -> list[MapFill]:
        return []

    def _readings(self) -> Iterable[Reading]:
        return []

    def scrape(self) -> dict[str, dict[str, float]]:
        """Metric -> source workload -> value."""
        text = self.renderer.render("")[0].decode()
        found: dict[str, dict[str, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                name = sample.name.removeprefix("nodeagent_")
                found.setdefault(name, {})[sample.labels.get("source_workload", "")] = sample.value
        return found


@pytest.mark.parametrize(("name", "outcome"), BY_CALLER.items())
def test_no_family_has_more_series_than_the_cap_and_the_sum_stays_right(name: str, outcome: Outcome) -> None:
    node = Node([row(f"w{number}", outcome, opened=number) for number in range(1, 11)])
    found = node.scrape()
    assert found[f"{name}_total"] == {"w1": 1.0, "w2": 2.0, "w3": 3.0, "overflow": 49.0}
    assert found["series_over_cap"][""] >= 7.0


def test_a_series_that_was_shown_never_falls_for_one_that_came_later() -> None:
    node = Node([row(name, Outcome.UDP, 5) for name in ("b", "c", "d")])
    before = node.scrape()["udp_sockets_total"]
    node.rows = [row("a", Outcome.UDP, 7), *reversed(node.rows)]  # a map's order is nobody's promise
    after = node.scrape()["udp_sockets_total"]
    assert before == {"b": 5.0, "c": 5.0, "d": 5.0}
    assert after == {**before, "overflow": 7.0}


def test_what_a_dry_run_came_to_is_no_request_and_has_a_family_of_its_own() -> None:
    tried = [requests("would-deny", 3, "shop/p"), requests("would-deny", 4, "shop/p", worker=1)]
    node = Node(requests=[requests("", 10), *tried, requests("would-limit", 2, "shop/l")])
    assert [(labels["reason"], value) for labels, value in node.samples("requests_total")] == [("", 10.0)]
    assert [value for _, value in node.samples("request_duration_seconds_count")] == [10.0]
    assert node.samples("dry_run_total") == [
        ({**LABELS, "policy": "shop/p", "outcome": "would-deny"}, 7.0),
        ({**LABELS, "policy": "shop/l", "outcome": "would-limit"}, 2.0),
    ]


def test_connections_and_requests_that_one_policy_would_refuse_are_added_up() -> None:
    node = Node([row("web", Outcome.WOULD_RATE_LIMIT, 5, "shop/l")], [requests("would-limit", 2, "shop/l")])
    assert node.samples("dry_run_total") == [({**LABELS, "policy": "shop/l", "outcome": "would-limit"}, 7.0)]
    assert node.samples("tcp_connections_opened_total") == []


def test_outcomes_of_dry_runs_have_no_more_series_than_the_cap_and_the_sum_stays_right() -> None:
    node = Node(requests=[requests("would-deny", number, "shop/p", f"w{number}") for number in range(1, 11)])
    found = node.scrape()
    assert found["dry_run_total"] == {"w1": 1.0, "w2": 2.0, "w3": 3.0, "overflow": 49.0}
    assert found["series_over_cap"][""] == 7.0
