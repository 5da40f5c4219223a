from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.maps import ConnectionRow
from nodeagent.metrics.collector import MetricsRenderer, Reading, Sources
from nodeagent.metrics.reader import MapFill

CAP = 3
BY_CALLER = {
    "bypass_connections": Outcome.BYPASS_NO_WORKER,
    "refused_connections": Outcome.NO_ENDPOINT,
    "dry_run_connections": Outcome.WOULD_RATE_LIMIT,
    "udp_sockets": Outcome.UDP,
    "audited_connections": Outcome.AUDITED,
    "connections_drained": Outcome.DRAINED,
    "connections_unpoliced": Outcome.UNPOLICED,
    "connections_cut": Outcome.CUT,
}


def row(workload: str, outcome: Outcome, opened: int = 1) -> ConnectionRow:
    return ConnectionRow(f"shop/{workload}/sa", "shop/cart:80", outcome, "", opened, 0, 0, 0, 0)


@dataclass
class Node:
    """What scrapes read."""

    rows: list[ConnectionRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        sources = Sources(requests=list, connections=self._connections, fills=self._fills, readings=self._readings)
        self.renderer = MetricsRenderer(sources, CAP)

    def _connections(self) -> list[ConnectionRow]:
        return self.rows

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
