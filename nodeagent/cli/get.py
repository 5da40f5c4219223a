"""`nodeagent get`: what the agent has in force, as tables."""

from __future__ import annotations

from pathlib import Path

import click

from nodeagent.cli import options
from nodeagent.cli.output import Column, Row, message, print_line, print_table, printed

_NAMED = (Column("NAMESPACE", "namespace"), Column("NAME", "name"))
_TARGETING = (*_NAMED, Column("TARGETS", "targets"), Column("MODE", "mode"))
_JUDGED = (
    Column("ACCEPTED", "accepted"),
    Column("STATE", "state", wide=True),
    Column("MESSAGE", "message", wide=True),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "services": (
        *_NAMED,
        Column("ADDRESS", "address"),
        Column("PORT", "port"),
        Column("PROTOCOL", "protocol"),
        Column("RUNG", "rung"),
        Column("ENDPOINTS", "endpoints"),
        Column("DOORS", "doors", wide=True),
        Column("ROUTES", "routes", wide=True),
        Column("POLICIES", "policies", wide=True),
    ),
    "endpoints": (
        *_NAMED,
        Column("ADDRESS", "address"),
        Column("PORT", "port"),
        Column("RUNG", "rung"),
        Column("SERVICES", "services"),
        Column("POLICIES", "policies", wide=True),
    ),
    "routes": (
        *_NAMED,
        Column("STATE", "state"),
        Column("PARENTS", "parents"),
        Column("BACKENDS", "backends"),
        Column("MATCHES", "matches", wide=True),
        Column("FILTERS", "filters", wide=True),
        Column("MESSAGE", "message", wide=True),
    ),
    "policies": (
        *_NAMED,
        Column("STATE", "state"),
        Column("ACTION", "action"),
        Column("LEVEL", "level"),
        Column("MODE", "mode"),
        Column("TARGETS", "targets"),
        Column("MESSAGE", "message", wide=True),
    ),
    "trafficpolicies": (
        *_TARGETING,
        Column("TIMEOUTS", "timeouts"),
        Column("RETRY", "retry"),
        Column("BREAKER", "breaker"),
        Column("OUTLIER", "outlier"),
        Column("LB", "balancer"),
        Column("FAULT", "fault"),
        Column("LIMITS", "limits"),
        *_JUDGED,
    ),
    "ratelimitpolicies": (
        *_TARGETING,
        Column("RULES", "limits"),
        Column("CONNECTIONS", "connections"),
        *_JUDGED,
    ),
    "workloads": (
        *_NAMED,
        Column("WORKLOAD", "workload"),
        Column("SERVICE ACCOUNT", "service_account"),
        Column("STATE", "state"),
        Column("ADDRESSES", "addresses"),
        Column("NODE", "node", wide=True),
        Column("FAIL MODE", "fail_mode", wide=True),
        Column("NETNS", "netns", wide=True),
        Column("MESSAGE", "message", wide=True),
    ),
    "connections": (
        *_NAMED,
        Column("PATH", "path"),
        Column("LOCAL", "local"),
        Column("REMOTE", "remote"),
        Column("DESTINATION", "destination"),
        Column("WORKER", "worker", wide=True),
    ),
}
SHORT = {"tpol": "trafficpolicies", "rlpol": "ratelimitpolicies"}


@click.command()
@click.argument("kind", type=click.Choice([*COLUMNS, *SHORT]))
@click.argument("name", default="")
@options.namespace
@options.output("table", "wide", "json", "yaml", "name")
@options.no_headers
@options.run_dir
def get(kind: str, name: str, namespace: str, output: str, no_headers: bool, run_dir: Path) -> None:
    """Show KIND, or only the one called NAME (or NAMESPACE/NAME, as -o name prints it)."""
    kind = SHORT.get(kind, kind)
    there, slash, rest = name.partition("/")
    if slash:
        if namespace not in ("", there):
            raise click.UsageError(f"{name} is not in namespace {namespace}, which -n asks for")
        namespace, name = there, rest
    client = options.client(run_dir)
    path = "/v1/connections" if kind == "connections" else f"/v1/objects/{kind}"
    answer = options.ask(lambda: client.get(path, {"namespace": namespace, "name": name}))
    show(kind, answer, output, headers=not no_headers)


def show(kind: str, answer: Row, output: str, headers: bool) -> None:
    items: list[Row] = answer["items"]
    if printed(answer, output):
        return
    if not items:
        message(f"no {kind}")
    elif output == "name":
        for item in items:
            print_line(f"{item['namespace']}/{item['name']}")
    else:
        print_table(COLUMNS[kind], [flat(item) for item in items], wide=output == "wide", headers=headers)


def flat(item: Row) -> Row:
    """Rules of a route as cells: where it sends, what it matches, and what it changes on the way."""
    if "rules" not in item or not isinstance(item["rules"], list):
        return item
    backends = [f"{b['name']}={b['weight']}" for rule in item["rules"] for b in rule["backends"]]
    matches = [" ".join(filter(None, (rule["method"], rule["path"]))) for rule in item["rules"]]
    changing = [one for rule in item["rules"] for one in (rule, *rule["backends"])]
    filters = [text for one in changing for text in one.get("filters", ())]
    cells = {"backends": backends, "filters": filters}
    return {**item, **{name: list(dict.fromkeys(texts)) for name, texts in cells.items()}, "matches": matches}
