"""What the commands print when an agent answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from nodeagent.cli.explain import lines as explain_lines
from nodeagent.cli.get import flat
from tests.cli.conftest import Run
from tests.cli.fake_agent import STATUS, FakeAgent

JUDGED = {"namespace", "name", "targets", "mode", "accepted", "state", "message", "conditions"}
KEYS = {
    "services": {"namespace", "name", "address", "port", "protocol", "rung", "endpoints", "routes", "policies"},
    "endpoints": {"namespace", "name", "address", "port", "rung", "services", "policies"},
    "routes": {"namespace", "name", "state", "message", "parents", "rules", "conditions"},
    "policies": {"namespace", "name", "state", "message", "action", "level", "targets", "conditions"},
    "trafficpolicies": {*JUDGED, "timeouts", "retry"},
    "ratelimitpolicies": JUDGED,
    "workloads": {"namespace", "name", "workload", "service_account", "state", "message", "addresses", "fail_mode"},
    "connections": {"namespace", "name", "path", "local", "remote", "destination", "worker"},
}


def parse(output: str, text: str) -> Any:
    return json.loads(text) if output == "json" else yaml.safe_load(text)


@pytest.mark.parametrize("output", ["json", "yaml"])
@pytest.mark.parametrize("kind", KEYS)
def test_lists_carry_a_version_their_kind_and_stable_keys(ask: Run, kind: str, output: str) -> None:
    result = ask("get", kind, "-o", output)
    assert (result.exit_code, result.stderr) == (0, "")
    answer = parse(output, result.stdout)
    assert (answer["version"], answer["kind"]) == ("v1", kind)
    assert answer["items"]
    for item in answer["items"]:
        assert item.keys() >= KEYS[kind]


@pytest.mark.parametrize("kind", KEYS)
def test_tables_show_one_row_an_object_and_wide_shows_more(ask: Run, kind: str) -> None:
    table = ask("get", kind).stdout.splitlines()
    bare = ask("get", kind, "--no-headers").stdout.splitlines()
    count = len(json.loads(ask("get", kind, "-o", "json").stdout)["items"])
    assert table[0].split()[:2] == ["NAMESPACE", "NAME"]
    assert len(table) - 1 == len(bare) == count
    assert len(ask("get", kind, "-o", "wide").stdout.splitlines()[0]) > len(table[0].rstrip())


def test_without_a_terminal_there_is_no_colour_and_no_folding(ask: Run) -> None:
    text = ask("get", "policies", "-o", "wide").stdout
    assert "\x1b" not in text
    assert "shop/cart:80,198.18.0.11:8080" in text


def test_short_names_of_kinds_mean_the_same(ask: Run) -> None:
    for short, kind in (("tpol", "trafficpolicies"), ("rlpol", "ratelimitpolicies")):
        assert ask("get", short).stdout == ask("get", kind).stdout
        assert json.loads(ask("get", short, "-o", "json").stdout)["kind"] == kind
    assert "request 2s" in ask("get", "tpol").stdout
    assert "all 100 per 1s burst 200" in ask("get", "rlpol").stdout
    assert "no ratelimitpolicy 'nope'" in ask("get", "rlpol", "nope").stderr


def test_filters_of_rules_and_backends_are_one_cell() -> None:
    backends = [
        {"name": "v1:80", "weight": 1, "filters": ["remove response header server"]},
        {"name": "v2:80", "weight": 1},
    ]
    rule = {"method": "", "path": "PathPrefix /", "filters": ["rewrite host to inner"], "backends": backends}
    assert flat({"rules": [rule, rule]})["filters"] == ["rewrite host to inner", "remove response header server"]


def test_names_can_be_given_back_to_get(ask: Run) -> None:
    names = ask("get", "workloads", "-o", "name").stdout.split()
    assert names == ["batch/job-1", "guest/g-1", "shop/web-1"]
    assert ask("get", "workloads", names[2], "-o", "name").stdout.split() == ["shop/web-1"]
    assert ask("get", "workloads", "-n", "batch", "-o", "name").stdout.split() == ["batch/job-1"]
    assert ask("get", "workloads", names[2], "-n", "batch").exit_code == 2


def test_what_does_not_exist_is_4_and_an_empty_list_is_0(ask: Run) -> None:
    missing = ask("get", "services", "nope")
    assert (missing.exit_code, missing.stdout) == (4, "")
    assert "no service 'nope'" in missing.stderr
    empty = ask("get", "services", "-n", "nowhere")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "no services\n")


def test_status_is_0_when_ready_and_1_when_not(ask: Run, agent: FakeAgent) -> None:
    ready = ask("status")
    assert ready.exit_code == 0
    assert "agent     ready (node node1, pid 7" in ready.stdout
    assert "generation 3 in force" in ready.stdout
    agent.api.problem = "no worker is alive"
    waiting = ask("status")
    assert waiting.exit_code == 1
    assert "not ready: no worker is alive" in waiting.stdout


def test_status_names_what_is_broken(ask: Run, agent: FakeAgent) -> None:
    agent.api.answer = {
        **STATUS,
        "instance": {**STATUS["instance"], "bypass": True},
        "config": {**STATUS["config"], "generation": 4, "errors": ["a.yaml: document 1: no kind"]},
        "pods": {"enrolled": [], "failed": {"shop/db-1": "no such namespace"}},
        "broker": {"pid": 0, "alive": False, "errors": 0, "last_error": ""},
    }
    text = ask("status").stdout
    parts = ("BYPASS is on", "generation 4 on its way", "a.yaml: document 1", "shop/db-1: no such", "broker    dead")
    assert [part for part in parts if part not in text] == []


def test_status_shows_warnings_and_stays_ready(ask: Run, agent: FakeAgent) -> None:
    warning = "HTTPRoute shop/r: BackendNotFound: Service shop/gone does not exist; its share is answered 500"
    agent.api.answer = {**STATUS, "config": {**STATUS["config"], "warnings": [warning]}}
    result = ask("status")
    assert result.exit_code == 0
    assert f"warning   {warning}" in result.stdout
    assert "error " not in result.stdout


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_status_for_programs_is_what_the_agent_said(ask: Run, output: str) -> None:
    assert parse(output, ask("status", "-o", output).stdout) == {"version": "v1", **STATUS}


def test_waiting_for_an_agent_that_never_gets_ready_ends(ask: Run, agent: FakeAgent) -> None:
    agent.api.problem = "no configuration is in force yet"
    assert ask("status", "--wait", "0.2").exit_code == 1


def test_explain_reads_in_the_order_in_which_a_connection_lives(ask: Run) -> None:
    result = ask("explain", "--from", "shop/web-1", "--to", "cart", "--path", "/items")
    assert result.exit_code == 0
    words = [line.split()[0] for line in result.stdout.splitlines()]
    assert words == ["shop/web-1", "rung", "route", "backend", "backend", "verdict"]
    assert "80% shop/cart-v1:80 -> 198.18.0.11:8080" in result.stdout


def test_explain_names_the_rule_that_denies(ask: Run) -> None:
    http = ask("explain", "--from", "shop/web-1", "--to", "cart", "-X", "DELETE").stdout
    assert "policy    shop/no-delete" in http
    assert "answer    403" in http
    assert "connect   EPERM by shop/no-batch" in ask("explain", "--from", "batch/job-1", "--to", "db.shop").stdout


def test_explain_shows_filters_timeouts_and_policies_below_what_declares_them() -> None:
    base = {"from": "shop/web-1", "to": {"name": "shop/cart:80", "address": "198.19.0.1", "port": 80}, "rung": "proxy"}
    request = {"status": 0, "route": "shop/cart", "rule": "0", "location": "", "filters": ["rewrite host to inner"]}
    request |= {"timeouts": ["request 1s"], "treatment": ["RateLimitPolicy shop/l: all 1 per 1s"]}
    share = {"name": "shop/v1:80", "share": 1.0, "status": 0, "endpoints": ["198.18.0.11:8080"]}
    backend = {**share, "filters": ["remove response header server"], "treatment": ["TrafficPolicy shop/t: retry 1"]}
    connect = {"allowed": True, "limited": "RateLimitPolicy shop/l: connections 1 per 1s"}
    base |= {"connect": connect, "caps": ["TrafficPolicy shop/n: requests 9"]}
    answer = {**base, "verdict": "allowed", "request": request, "backends": [backend]}
    assert [line for line, _ in explain_lines(answer)][2:-1] == [
        "caps      TrafficPolicy shop/n: requests 9 (of shop/web-1)",
        "limited   RateLimitPolicy shop/l: connections 1 per 1s",
        "route     shop/cart rule 0",
        "filter    rewrite host to inner",
        "timeout   request 1s",
        "treated   RateLimitPolicy shop/l: all 1 per 1s",
        "backend   100% shop/v1:80 -> 198.18.0.11:8080",
        "filter    remove response header server (of this backend)",
        "treated   TrafficPolicy shop/t: retry 1 (of this backend)",
    ]
    redirected = {**request, "status": 308, "location": "https://cart/"}
    found = explain_lines({**base, "verdict": "allowed", "request": redirected})
    assert ("answer    308, location https://cart/", "") in found


def test_explain_ends_with_what_policies_in_dry_run_would_change() -> None:
    base = {"from": "shop/web-1", "to": {"name": "shop/cart:80", "address": "198.19.0.1", "port": 80}, "rung": "proxy"}
    dry_run = {"verdict": "denied", "layer": "request", "policies": ["shop/a", "shop/p"], "policy": "shop/p"}
    dry_run |= {"detail": "denied by AuthorizationPolicy shop/p", "notes": []}
    assert explain_lines({**base, "verdict": "allowed", "dry_run": dry_run})[-2:] == [
        ("verdict   allowed", "allowed"),
        (
            "dry run   with shop/a, shop/p in force: denied at request by shop/p: denied by AuthorizationPolicy shop/p",
            "denied",
        ),
    ]
    dry_run |= {"verdict": "mixed", "policy": "", "detail": "", "notes": ["20% are denied"]}
    assert [line for line, _ in explain_lines({**base, "verdict": "allowed", "dry_run": dry_run})[-2:]] == [
        "dry run   with shop/a, shop/p in force: mixed",
        "dry run   20% are denied",
    ]


def test_explain_answers_programs(ask: Run) -> None:
    answer = json.loads(ask("explain", "--from", "shop/web-1", "--to", "cart", "-H", "X-A: b", "-o", "json").stdout)
    assert answer.keys() >= {"version", "from", "to", "rung", "verdict", "request", "backends", "notes"}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--from", "web-1", "--to", "cart"], 2, "NAMESPACE/POD"),
        (["--from", "shop/web-1", "--to", "cart", "-H", "novalue"], 2, "'NAME: VALUE'"),
        (["--from", "shop/nobody", "--to", "cart"], 4, "no pod nobody"),
        (["--from", "shop/web-1", "--to", "nothing"], 4, "no Service shop/nothing"),
    ],
)
def test_explain_tells_wrong_questions_from_missing_things(
    ask: Run, arguments: list[str], code: int, text: str
) -> None:
    result = ask("explain", *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert text in result.stderr


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_config_dump_prints_the_whole_snapshot(ask: Run, output: str) -> None:
    answer = parse(output, ask("config", "dump", "-o", output).stdout)
    assert (answer["version"], answer["generation"], len(answer["workloads"])) == ("v1", 1, 3)


def test_version_is_readable_by_people_and_programs(run: Run) -> None:
    assert run("version").stdout.startswith("nodeagent 0.")
    for output in ("json", "yaml"):
        answer = parse(output, run("version", "-o", output).stdout)
        assert answer.keys() == {"version", "nodeagent", "python", "kernel"}


def test_an_agent_that_fails_is_1_and_says_where_to_look(
    ask: Run, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(agent.api, "snapshot", broken)
    result = ask("config", "dump")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "answered 500" in result.stderr
    assert "its log says more" in result.stderr
    assert "boom" in caplog.text


STALE = {
    **STATUS["config"],
    "source": "Kubernetes https://10.96.0.1:443",
    "stale_s": 34.6,
    "restored": False,
    "source_problem": "connection refused",
    "kinds": [
        {"kind": "HTTPRoute", "state": "absent", "message": "httproutes.gateway.networking.k8s.io is not installed"},
        {"kind": "Pod", "state": "away", "message": "connection refused"},
    ],
}


def test_status_says_how_far_behind_the_api_server_the_node_is(ask: Run, agent: FakeAgent) -> None:
    agent.api.answer = {**STATUS, "config": STALE}
    text = ask("status").stdout
    assert "source    stale for 35 s, what was last known is in force: connection refused" in text
    assert "source    httproutes.gateway.networking.k8s.io is not installed" in text
    agent.api.answer = {**STATUS, "config": {**STALE, "restored": True}}
    assert "the last good state from disk is in force" in ask("status").stdout
    agent.api.answer = {**STATUS, "config": {**STALE, "stale_s": 0.0}}
    assert "stale" not in ask("status").stdout
