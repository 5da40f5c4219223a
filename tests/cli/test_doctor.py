"""doctor: what is checked, how it reads, and what code it ends with; the machine is made up."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeagent.agent import preflight
from nodeagent.agent.lease import Lease
from nodeagent.agent.preflight import Finding, Level
from nodeagent.agent.settings import Settings
from nodeagent.cli import checks, cluster_checks
from nodeagent.cli.advice import on_error
from nodeagent.cli.checks import Place
from nodeagent.config.problems import NOT_PROGRAMMED, UNUSABLE, Complaint
from nodeagent.kernel import cgroups
from nodeagent.kernel.hooks import HOOKS
from tests.acceptance.preflight_cases import fixes, unactionable
from tests.agent.test_configuration import configured
from tests.cli.conftest import Run
from tests.cli.fake_agent import STATUS
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document

FINE = Finding("prerequisites", "kernel", Level.OK, "Linux 6.1")
WARNING = Finding("prerequisites", "open files", Level.WARNING, "few files", "they run out", "ulimit -Hn 65536")
MOUNT = "mount -t bpf bpf /sys/fs/bpf"
ERROR = Finding("prerequisites", "bpffs", Level.ERROR, "no bpffs", "nothing can be pinned", MOUNT)
HOOK = Finding("instance", "hooks", Level.ERROR, "not attached: connect4", "nothing is judged", "restart the agent")

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Findings of the machine and of the instance."""

    def make(*here: Finding, instance: tuple[Finding, ...] = ()) -> None:
        monkeypatch.setattr(preflight, "run_all", lambda _bpffs, _bytecode: list(here))
        monkeypatch.setattr(checks, "instance_checks", lambda _place: list(instance))

    return make


def test_in_a_pod_the_cluster_is_looked_at_too(run: Run, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(FINE)
    taint = Finding("cluster", "taint", Level.ERROR, "node1 has the taint", "pods wait", "kubectl taint node node1 x-")
    monkeypatch.setattr(cluster_checks, "pod_checks", lambda _environment, _ready: [taint])
    assert "taint" not in run("doctor").stdout
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    result = run("doctor")
    assert result.exit_code == 1
    assert "node1 has the taint" in result.stdout


def test_pre_prints_only_what_one_can_act_on(run: Run, machine: Machine) -> None:
    machine(FINE, WARNING, ERROR)
    result = run("doctor", "--pre")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "‼ few files",
        "    why: they run out",
        "    fix: ulimit -Hn 65536",
        "× no bpffs",  # noqa: RUF001  # the mark
        "    why: nothing can be pinned",
        f"    fix: {MOUNT}",
    ]


def test_the_acceptance_suite_sees_a_line_that_nobody_can_act_on(run: Run, machine: Machine) -> None:
    machine(FINE, WARNING, ERROR)
    assert unactionable(run("doctor", "--pre").stdout) == []
    assert fixes(run("doctor", "--pre").stdout) == [WARNING.fix, MOUNT]
    machine(FINE, Finding("prerequisites", "x", Level.ERROR, "something is wrong", "it matters"))
    assert unactionable(run("doctor", "--pre").stdout) == ["× something is wrong"]  # noqa: RUF001
    machine(FINE)
    assert unactionable(run("doctor").stdout)[:2] == ["prerequisites", "√ Linux 6.1"]


def test_pre_on_a_good_machine_prints_no_data_and_says_so_on_stderr(run: Run, machine: Machine) -> None:
    machine(FINE)
    result = run("doctor", "--pre")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "This machine has what an agent needs.\n")


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
def test_warnings_fail_only_when_strict(run: Run, machine: Machine, options: list[str], code: int) -> None:
    machine(FINE, WARNING)
    assert run("doctor", "--pre", *options).exit_code == code
    assert run("doctor", *options).exit_code == code


def test_without_prerequisites_the_instance_is_not_looked_at_and_that_is_said(run: Run, machine: Machine) -> None:
    machine(ERROR, instance=(HOOK,))
    result = run("doctor")
    assert result.exit_code == 1
    assert "connect4" not in result.stdout
    assert "The instance was not looked at" in result.stderr


def test_the_whole_report_is_grouped_and_shows_what_is_well(run: Run, machine: Machine) -> None:
    machine(FINE, instance=(HOOK,))
    result = run("doctor")
    assert result.exit_code == 1
    shown = [line.strip() for line in result.stdout.splitlines() if not line.startswith("    ")]
    assert shown == ["prerequisites", "√ Linux 6.1", "instance", "× not attached: connect4"]  # noqa: RUF001


@pytest.mark.parametrize(("output", "parse"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_get_every_check_with_its_fix(
    run: Run, machine: Machine, output: str, parse: Callable[[str], Any]
) -> None:
    machine(FINE, ERROR)
    report = parse(run("doctor", "--pre", "-o", output).stdout)
    assert (report["version"], report["success"]) == ("v1", False)
    assert [check["level"] for check in report["checks"]] == ["success", "error"]
    assert report["checks"][1] == {
        "category": "prerequisites",
        "check": "bpffs",
        "level": "error",
        "what": "no bpffs",
        "why": "nothing can be pinned",
        "fix": MOUNT,
    }


# ---- the instance's checks, on an instance that has nothing in the kernel ----


def place(tmp_path: Path, **changes: Any) -> Place:
    return Place(tmp_path / "run", tmp_path / "pins", Path("/sys/fs/cgroup"), {**STATUS, **changes})


def dead(tmp_path: Path) -> Place:
    return Place(tmp_path / "run", tmp_path / "pins", Path("/sys/fs/cgroup"), None)


def complained(level: str, *complaints: Complaint) -> dict[str, Any]:
    """The part `config` of a status."""
    rows = [{"level": level, **one._asdict()} for one in complaints]
    return {**STATUS["config"], f"{level}s": [one.text for one in complaints], "complaints": rows}


def levels(findings: object) -> list[Level]:
    return [finding.level for finding in findings]  # type: ignore[attr-defined]  # an iterable of findings


def test_a_living_agent_without_hooks_is_an_error(tmp_path: Path) -> None:
    (finding,) = checks.check_hooks(place(tmp_path))
    assert finding.level is Level.ERROR
    assert all(hook.name in finding.what for hook in HOOKS)
    assert levels(checks.check_hooks(dead(tmp_path))) == [Level.OK]


def test_half_attached_hooks_are_an_error_also_without_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "pins", lambda _bpffs: None)
    monkeypatch.setattr(checks, "attached_hooks", lambda _layout: {"connect4": {}})
    (finding,) = checks.check_hooks(dead(tmp_path))
    assert finding.level is Level.ERROR
    assert "connect6" in finding.what


def test_a_dead_agent_is_an_error_with_the_command_that_starts_one(tmp_path: Path) -> None:
    (finding,) = checks.check_agent(dead(tmp_path))
    assert (finding.level, finding.fix) == (Level.ERROR, "nodeagent run --manifests DIR")


def test_an_agent_that_lives_but_does_not_answer_is_named_by_its_pid(tmp_path: Path) -> None:
    lease = Lease(Settings(Path(), run_dir=tmp_path / "run").lease_file)
    assert lease.try_acquire()
    (finding,) = checks.check_agent(dead(tmp_path))
    lease.release()
    assert finding.what == f"the agent with pid {os.getpid()} does not answer"
    assert f"kill {os.getpid()}" in finding.fix


def test_an_agent_that_is_not_ready_says_why(tmp_path: Path) -> None:
    agent = {**STATUS["agent"], "ready": False, "problem": "no worker is alive"}
    (finding,) = checks.check_agent(place(tmp_path, agent=agent))
    assert (finding.level, "no worker is alive" in finding.what) == (Level.ERROR, True)
    assert levels(checks.check_agent(place(tmp_path))) == [Level.OK]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, [Level.OK]),
        ({"worker_deaths": 2}, [Level.OK, Level.WARNING]),
        ({"workers": []}, [Level.ERROR]),
        ({"workers": [{**STATUS["workers"][0], "state": "starting"}]}, [Level.ERROR]),
        ({"workers": [{**STATUS["workers"][0], "listeners": 0}]}, [Level.ERROR]),
        ({"workers": [{**STATUS["workers"][0], "listeners": 0}], "pods": {"enrolled": [], "failed": {}}}, [Level.OK]),
    ],
)
def test_workers_that_serve_nobody_are_an_error(tmp_path: Path, changes: dict[str, Any], wanted: list[Level]) -> None:
    assert levels(checks.check_workers(place(tmp_path, **changes))) == wanted


def test_a_reference_to_what_is_missing_is_a_warning_beside_objects_in_force(tmp_path: Path) -> None:
    changes = {"config": complained("warning", Complaint("BackendNotFound", "HTTPRoute shop/r: BackendNotFound"))}
    found = list(checks.check_configuration(place(tmp_path, **changes)))
    assert levels(found) == [Level.WARNING, Level.OK, Level.OK]
    assert found[0].what == "HTTPRoute shop/r: BackendNotFound"
    assert found[0].fix


def advised(directory: Path, *documents: Document) -> dict[str, str]:
    """Object -> what doctor says is to be done, of what the agent really says of these manifests."""
    configuration = configured(directory, *some.callers(), *some.service("cart"), *documents)
    config = complained("error", *configuration.errors())
    config["complaints"] += complained("warning", *configuration.warnings())["complaints"]
    found = [one for one in checks.check_configuration(place(directory, config=config)) if one.level is not Level.OK]
    words = [next(word.strip("():,") for word in one.what.split() if word.startswith("shop/")) for one in found]
    return {name: f"{one.why}: {one.fix}" for name, one in zip(words, found, strict=True)}


def test_the_advice_fits_what_is_wrong(tmp_path: Path) -> None:
    cart: Document = {"group": "", "kind": "Service", "name": "cart"}
    to_cart = {"backendRefs": [{"name": "cart", "port": 80}]}
    found = advised(
        tmp_path,
        manifests.traffic_policy("shop", "a", cart, timeouts={"request": "1s"}),
        manifests.traffic_policy("shop", "loser", cart, timeouts={"request": "2s"}),
        manifests.traffic_policy("shop", "early", {**cart, "name": "later"}, timeouts={"request": "1s"}),
        manifests.traffic_policy("shop", "wrong", cart, timeouts={"request": "soon"}),
        manifests.http_route("shop", "lost", "gone", [to_cart]),
        manifests.http_route("shop", "dangling", "cart", [{"backendRefs": [{"name": "gone", "port": 80}]}]),
        manifests.http_route("shop", "odd", "cart", [{**to_cart, "filters": [{"type": "Later"}]}, to_cart]),
    )
    assert {name: text.split(": ")[1] for name, text in found.items()} == {
        "shop/loser": "give one of the two another target or address, or delete the one that should not count",
        "shop/early": "create the target, or correct spec.targetRefs",
        "shop/wrong": "correct it and save the file, or apply it",
        "shop/lost": "create the Service or its port, or correct spec.parentRefs",
        "shop/dangling": "create what it refers to, or correct the reference",
        "shop/odd": "use a value that is supported",
    }


def test_what_the_kernel_did_not_take_is_no_fault_of_an_object() -> None:
    assert "goes on trying" in on_error(NOT_PROGRAMMED).fix


def test_every_object_that_is_not_in_force_is_a_line(tmp_path: Path) -> None:
    changes = {
        "config": complained("error", Complaint(UNUSABLE, "a.yaml: one"), Complaint(UNUSABLE, "b.yaml: two")),
        "pods": {"enrolled": [], "failed": {"shop/db-1": "gone"}},
    }
    found = [f.what for f in checks.check_configuration(place(tmp_path, **changes)) if f.level is Level.ERROR]
    assert found == ["a.yaml: one", "b.yaml: two", "pod shop/db-1: gone"]


def test_a_kind_that_is_not_installed_is_told_once(tmp_path: Path) -> None:
    """In a pod it is the cluster's check that tells it."""
    kind = {"kind": "HTTPRoute", "state": "absent", "message": "httproutes.gateway.networking.k8s.io is not installed"}
    there = place(tmp_path, config={**STATUS["config"], "kinds": [kind]})
    assert levels(checks.check_source(there)) == [Level.WARNING, Level.OK]
    assert levels(checks.check_source(dataclasses.replace(there, asks_cluster=True))) == [Level.OK]


def test_the_lines_of_an_older_agent_which_gives_no_reasons_are_shown(tmp_path: Path) -> None:
    config = {**STATUS["config"], "errors": ["a.yaml: one"], "warnings": ["b.yaml: two"]}
    del config["complaints"]
    found = list(checks.check_configuration(place(tmp_path, config=config)))
    assert levels(found) == [Level.ERROR, Level.WARNING, Level.OK]
    assert all(one.fix for one in found[:2])


def test_a_check_that_cannot_run_is_a_finding_and_the_others_still_run(tmp_path: Path) -> None:
    def check_broken(_place: Place) -> list[Finding]:
        raise cgroups.NoCgroup2Error("/tmp is not a cgroup")

    (finding,) = checks.guarded(check_broken, dead(tmp_path))
    assert (finding.level, finding.check) == (Level.ERROR, "broken")
    assert "/tmp is not a cgroup" in finding.what
    assert finding.why
    assert finding.fix


def test_a_source_that_is_not_followed_is_an_error_and_a_kind_that_is_not_installed_a_warning(tmp_path: Path) -> None:
    absent = "httproutes.gateway.networking.k8s.io is not installed: such objects have no effect; looked for again"
    kinds = [
        {"kind": "HTTPRoute", "state": "absent", "message": absent},
        {"kind": "Pod", "state": "forbidden", "message": "no; the agent's ClusterRole must allow get"},
    ]
    config = {**STATUS["config"], "source": "Kubernetes", "stale_s": 60, "source_problem": "refused", "kinds": kinds}
    found = list(checks.check_source(place(tmp_path, config=config)))
    assert levels(found) == [Level.WARNING, Level.ERROR, Level.ERROR]
    assert "install the CRDs of gateway.networking.k8s.io," in found[0].fix
    assert "changes of Pod objects are not seen" in found[1].why
    assert found[2].what == "Kubernetes: not followed for 60 s: refused"
    assert all(one.why and one.fix for one in found)
    fresh = {**config, "stale_s": 1.0, "kinds": [{"kind": "Pod", "state": "synced", "message": ""}]}
    assert levels(checks.check_source(place(tmp_path, config=fresh))) == [Level.OK]


def test_of_a_directory_or_without_an_agent_nothing_is_said_of_a_source(tmp_path: Path) -> None:
    assert list(checks.check_source(place(tmp_path))) == []
    assert list(checks.check_source(dead(tmp_path))) == []
