"""What the documents say is held against the code: names, reasons, sizes, options, examples, links."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from nodeagent.agent.readings import Facts, Told, readings
from nodeagent.agent.worker import Worker
from nodeagent.cli.main import COMMANDS
from nodeagent.cli.run import run
from nodeagent.config.compile import compile as compile_objects
from nodeagent.config.manifest_files import read_manifest_file
from nodeagent.config.schema import Fields, Items, Schema
from nodeagent.config.schemas.rate_limits import RATE_LIMIT_POLICY
from nodeagent.config.schemas.traffic import TRAFFIC_POLICY
from nodeagent.config.source import Freshness, KindState
from nodeagent.core import decide, overload, policy_refusals, route_timeouts
from nodeagent.core.bounds import Bounds
from nodeagent.core.ledger import LocalLedger
from nodeagent.core.refusals import REQUESTS, RESPONSES, Refusal
from nodeagent.kernel import abi
from nodeagent.kernel.ledger import COUNTS
from nodeagent.metrics.collector import PREFIX, NodeCollector, Sources
from nodeagent.proxy.accounting import Accounting
from nodeagent.proxy.data_loop import DataLoop
from nodeagent.proxy.engine import Engine
from nodeagent.proxy.sockets import LocalSockets
from nodeagent.proxy.stats import Stats
from nodeagent.regex import compile_regex
from tests.config import builders as some
from tests.doc_examples import Example, examples_of
from tests.testbed import manifests

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "daemonset/*.md", "bench/*.md", "bpf/**/*.md")
    for path in ROOT.glob(pattern)
)
RUN = ("HTTPRoute", "AuthorizationPolicy", "TrafficPolicy", "RateLimitPolicy")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
NAME = re.compile(r"`([a-z][a-z0-9_]*)`")
REFUSAL_ROW = re.compile(r"^\| (\d{3}) \| `([a-z0-9.-]+)` \| (\d{4} [0-9.]+) \|$", re.MULTILINE)
MAP = re.compile(
    r"BPF_F_TABLE\(\"\w+\", [^,]+, [^,]+, (?P<name>\w+), (?P<size>\w+), (?P<flags>[A-Z_0-9]+)\)", re.MULTILINE
)


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


# ---- metrics ----


def worker_values() -> dict[str, float]:
    """Every value that a worker reports of itself."""
    loop = DataLoop()
    try:
        engine = Engine(loop, Bounds(), LocalSockets(), Accounting.anonymous(), LocalLedger(lambda: 0), compile_regex)
        return {**Stats().as_json(), **engine.gauges(), **dict.fromkeys(COUNTS, 0)}
    finally:
        loop.close()


def families() -> list[Metric]:
    worker = Worker(0, lambda _worker, _report: None, lambda _worker, _status: None)
    worker.report.stats = worker_values()
    source = Freshness(kinds=(KindState("Pod", "synced", 1),))
    facts = Facts("1", 1, 1, 0, 0, 0, True, False, 0, 0, 0, 0, 0, {0: 1.0}, source=source, told=Told())
    sources = Sources(requests=list, connections=list, fills=list, readings=lambda: readings(facts, [worker]))
    return list(NodeCollector(sources).collect())


def exposed_name(family: Metric) -> str:
    return family.name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else "")


def documented_metrics() -> set[str]:
    """Names in the first cell of the rows of docs/metrics.md."""
    rows = (line for line in text("docs/metrics.md").splitlines() if line.startswith("| `"))
    return {name for row in rows for name in NAME.findall(row.split("|")[1])}


def test_metrics_page_names_exactly_the_metrics_that_are_exposed() -> None:
    assert documented_metrics() == {exposed_name(family) for family in families()}


def test_errors_page_names_every_reason_of_a_policy_with_its_flag() -> None:
    rows = [line for line in text("docs/errors.md").splitlines() if line.startswith("|")]
    for refusal in (*policy_refusals.ALL, *overload.ALL):
        assert any(f"`{refusal.reason}`" in row and f"| {refusal.flag} |" in row for row in rows), refusal


def test_metrics_page_names_every_label() -> None:
    page = text("docs/metrics.md")
    labels = {label for family in families() for label in getattr(family, "_labelnames", ())}
    assert [label for label in sorted(labels) if f"`{label}`" not in page] == []
    assert "source_workload" in labels


# ---- errors ----


def test_errors_page_lists_exactly_the_refusals_that_there_are() -> None:
    def rows(table: dict[str, Refusal]) -> set[tuple[str, str, str]]:
        return {(str(refusal.status), refusal.reason, refusal.section) for refusal in table.values()}

    listed = set(REFUSAL_ROW.findall(text("docs/errors.md")))
    path = ("400", "path", "3986 6.2.2")  # made where it is found: its detail is the path's own fault
    assert listed == {path, *rows(REQUESTS), *rows(RESPONSES)}


def test_errors_page_names_every_reason_of_a_decision() -> None:
    page = text("docs/errors.md")
    decided = (decide.DENIED, decide.NO_ROUTE, decide.BACKEND_NOT_FOUND, decide.NO_ENDPOINT, decide.REDIRECT)
    timeouts = (route_timeouts.REQUEST_TIMEOUT, route_timeouts.BACKEND_REQUEST_TIMEOUT)
    reasons = (*decided, *timeouts, *(reason + route_timeouts.ABORTED for reason in timeouts))
    assert [reason for reason in reasons if f"`{reason}`" not in page] == []


def test_errors_page_names_every_reason_of_an_upstreams_fault() -> None:
    reasons = re.findall(r'_(?:answer|abort)\((?:\d+|"[A-Z]*"), "([a-z-]+)"', text("nodeagent/proxy/exchange.py"))
    page = text("docs/errors.md")
    assert len(reasons) >= 3
    assert [reason for reason in reasons if f"`{reason}`" not in page] == []


# ---- limits ----


def map_sizes() -> Iterator[tuple[str, int]]:
    constants = {"NA_MAX_WORKERS": abi.MAX_WORKERS, "NA_SERIES_PER_WORKER": abi.SERIES_PER_WORKER}
    for found in MAP.finditer(text("bpf/maps.h")):
        name, size = found["name"], found["size"]
        yield ("requests_<worker>" if name == "requests" else name), constants.get(size) or int(size)


def test_limits_page_has_the_size_of_every_map_that_can_fill_up() -> None:
    page = text("docs/limits.md")
    sizes = dict(map_sizes())
    assert len(sizes) >= 12
    wrong = [name for name, size in sizes.items() if size > 1 and not re.search(rf"\| `{name}` \| {size:,}\b", page)]
    assert wrong == []


# ---- command line ----


def test_cli_page_names_every_command_and_every_option_of_run() -> None:
    page = text("docs/cli.md")
    assert [name for name in COMMANDS if not re.search(rf"`{name}\b", page)] == []
    options = [option for parameter in run.params for option in (*parameter.opts, *parameter.secondary_opts)]
    assert "--manifests" in options
    assert [option for option in options if f"`{option}" not in page] == []


# ---- examples and links ----


EXAMPLES = [one for page in PAGES for one in examples_of(page.name, page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.page}:{example.line}")
def test_an_example_manifest_is_valid(example: Example) -> None:
    read = read_manifest_file(example.page, example.manifest.encode())
    assert [str(problem) for problem in read.problems] == []
    assert [str(problem) for entry in read.entries for problem in entry.problems] == []
    assert read.entries


def test_every_example_of_a_route_or_policy_shows_what_one_then_sees() -> None:
    """tests/agent_kernel/test_doc_examples.py holds that against a running agent."""
    of_policies = [one for one in EXAMPLES if any(f"kind: {kind}\n" in one.manifest for kind in RUN)]
    assert len(of_policies) >= 15
    assert [f"{one.page}:{one.line}" for one in of_policies if not one.commands] == []


def fields_of(schema: Schema) -> Iterator[str]:
    if isinstance(schema, Fields):
        for name, inner in schema.fields.items():
            yield name
            yield from fields_of(inner)
    elif isinstance(schema, Items):
        yield from fields_of(schema.of)


@pytest.mark.parametrize(
    ("page", "schema"),
    [("docs/traffic-policy.md", TRAFFIC_POLICY), ("docs/rate-limit-policy.md", RATE_LIMIT_POLICY)],
)
def test_the_page_of_a_policy_names_each_of_its_fields(page: str, schema: Fields) -> None:
    names = set(fields_of(schema.fields["spec"]))
    assert len(names) > 15
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", text(page))] == []


POLICIES = [
    one for one in EXAMPLES if "kind: TrafficPolicy\n" in one.manifest or "kind: RateLimitPolicy\n" in one.manifest
]


@pytest.mark.parametrize("example", POLICIES, ids=lambda example: f"{example.page}:{example.line}")
def test_the_example_of_a_policy_is_accepted_where_its_target_is(example: Example) -> None:
    services = [some.service(name, f"198.19.0.{number}") for number, name in enumerate(("catalog", "ledger"), 1)]
    backends = [{"backendRefs": [manifests.backend("catalog", 1)]}]
    route = manifests.http_route("shop", "catalog-canary", "catalog", backends)
    base = some.text(*some.callers(), *itertools.chain(*services), route)
    objects = some.load({"base.yaml": base, example.page: example.manifest})[1]
    assert objects.problems == ()
    conditions = compile_objects(objects, 1, allow_faults=True)[1]
    accepted = [one for one in conditions if one.type == "Accepted" and "Policy" in one.kind]
    assert [(one.status, one.reason) for one in accepted] == [("True", "Accepted")]


@pytest.mark.parametrize("package", ["agent", "config", "core", "kernel", "proxy", "status"])
def test_a_package_says_what_each_of_its_files_is_for(package: str) -> None:
    folder = ROOT / "nodeagent" / package
    groups = text(f"nodeagent/{package}/__init__.py").replace(
        "read_*", " ".join(one.stem for one in folder.glob("read_*"))
    )
    files = {one.stem for one in folder.glob("*.py")} - {"__init__"}
    assert sorted(files - set(re.findall(r"\w+", groups))) == []


@pytest.mark.parametrize(("page", "least"), [("ARCHITECTURE.md", 5), ("docs/where-to-change-what.md", 50)])
def test_pages_for_developers_name_files_that_are_there(page: str, least: int) -> None:
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.(?:py|h|c|md))`", text(page))
    folders = (ROOT, ROOT / "nodeagent")
    assert len(named) > least
    assert [name for name in named if not any((folder / name).exists() for folder in folders)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_to_a_file(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
