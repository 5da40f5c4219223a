"""Every command with no agent and nothing pinned: what it says, and its exit code."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from nodeagent.agent.lease import Lease
from nodeagent.agent.settings import Settings, admin_socket
from nodeagent.cli import uninstall as uninstalling
from nodeagent.cli.errors import CliError, from_system
from nodeagent.cli.instance import counted
from nodeagent.cli.status import lines
from nodeagent.kernel.abi import Outcome
from nodeagent.kernel.maps import ConnectionRow
from tests.cli.conftest import Run

NEED_AN_AGENT = [
    "get services",
    "get connections",
    "explain --from shop/web-1 --to cart",
    "config dump",
    "observe",
    "observe -f",
    "status",
]


@pytest.mark.parametrize("command", NEED_AN_AGENT)
def test_what_needs_an_agent_ends_with_3_and_says_how_to_start_one(run: Run, tmp_path: Path, command: str) -> None:
    result = run(*command.split(), "--run-dir", tmp_path)
    assert result.exit_code == 3
    assert f"no agent on {admin_socket(tmp_path)}" in result.stderr
    assert "nodeagent run --manifests DIR" in result.stderr


def test_a_socket_that_nobody_listens_on_any_more_is_no_agent(run: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(admin_socket(tmp_path)))
    assert run("get", "services", "--run-dir", tmp_path).exit_code == 3


def test_status_without_an_agent_still_says_what_the_kernel_does(run: Run, tmp_path: Path) -> None:
    result = run("status", "--run-dir", tmp_path, "--bpffs", tmp_path / "none")
    assert result.exit_code == 3
    assert "hooks are detached, all traffic is direct" in result.stdout
    assert f"nothing is pinned in {tmp_path / 'none'}" in result.stdout


def test_status_without_an_agent_gives_programs_the_same_keys(run: Run, tmp_path: Path) -> None:
    result = run("status", "--run-dir", tmp_path, "--bpffs", tmp_path / "none", "-o", "json")
    answer = json.loads(result.stdout)
    assert answer["agent"] == {"alive": False}
    assert answer.keys() == {"version", "agent", "instance", "workers_beating", "pods", "connections", "dry_run"}
    assert answer["instance"].keys() == {"name", "bpffs", "attached", "bypass", "hooks"}


def test_what_a_dry_run_says_is_no_connection_and_has_the_word_of_the_metrics() -> None:
    def row(outcome: Outcome, opened: int) -> ConnectionRow:
        return ConnectionRow("shop/web/web", "shop/db:5432", outcome, "", opened, 0, 0, 0, 0)

    made = [row(Outcome.DIRECT, 3), row(Outcome.DIRECT, 1), row(Outcome.NO_ENDPOINT, 5)]
    counts = counted([*made, row(Outcome.WOULD_RATE_LIMIT, 2), row(Outcome.WOULD_DENY, 1)])
    assert counts == {
        "connections": {"direct": 4, "no-endpoint": 5},
        "dry_run": {"would-limit": 2, "would-deny": 1},
    }
    dead = {"version": "v1", "agent": {"alive": False}, "workers_beating": {}, "pods": {"enrolled_count": 0}, **counts}
    instance = {"name": "x", "bpffs": "/b", "attached": True, "bypass": False, "hooks": ["connect4"]}
    said = [text for text, _ in lines({**dead, "instance": instance})]
    assert said[-4:] == [
        "counted   direct: 4",
        "counted   no-endpoint: 5",
        "dry run   would-deny: 1",
        "dry run   would-limit: 2",
    ]


@pytest.mark.parametrize("command", ["bpf progs", "bpf maps", "bpf map dump config", "bypass on", "bypass off"])
def test_what_reads_pins_ends_with_4_where_nothing_is_pinned(run: Run, tmp_path: Path, command: str) -> None:
    result = run(*command.split(), "--bpffs", tmp_path / "none")
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"no instance is pinned in {tmp_path / 'none'}" in result.stderr


def test_run_names_a_manifest_directory_that_is_not_there(run: Run, tmp_path: Path) -> None:
    result = run("run", "--manifests", tmp_path / "none")
    assert result.exit_code == 1
    assert "is not a directory" in result.stderr


@pytest.mark.parametrize("flags", [["--workers", "99"], ["--metrics-address", "nowhere"]])
def test_run_refuses_a_value_it_cannot_run_with_as_wrong_usage(run: Run, tmp_path: Path, flags: list[str]) -> None:
    assert run("run", "--manifests", tmp_path, *flags).exit_code == 2


# ---- uninstall removes whole directories, so it looks first ----


def test_uninstall_refuses_while_the_agent_lives(run: Run, tmp_path: Path) -> None:
    lease = Lease(Settings(Path(), run_dir=tmp_path).lease_file)
    assert lease.try_acquire()
    result = run("uninstall", "--run-dir", tmp_path, "--bpffs", tmp_path / "pins")
    lease.release()
    assert result.exit_code == 1
    assert f"kill {os.getpid()}" in result.stderr


def test_uninstall_with_a_wrong_run_dir_still_refuses_while_the_agent_lives(run: Run, tmp_path: Path) -> None:
    pins = tmp_path / "pins"
    (pins / "v1").mkdir(parents=True)
    lease = Lease(Settings(Path(), run_dir=tmp_path / "run").lease_file, pins)
    assert lease.try_acquire()
    result = run("uninstall", "--run-dir", tmp_path / "wrong", "--bpffs", pins, "--state-dir", tmp_path)
    lease.release()
    assert result.exit_code == 1
    assert f"kill {os.getpid()}" in result.stderr
    assert (pins / "v1").is_dir()


@pytest.mark.parametrize("option", ["--run-dir", "--bpffs"])
def test_uninstall_refuses_a_directory_that_holds_anything_of_others(run: Run, tmp_path: Path, option: str) -> None:
    places = {"--run-dir": tmp_path / "run", "--bpffs": tmp_path / "pins"}
    for path in places.values():
        path.mkdir()
    (places[option] / "precious").write_text("mine", encoding="utf-8")
    result = run("uninstall", "--state-dir", tmp_path, *(str(part) for pair in places.items() for part in pair))
    assert result.exit_code == 1
    assert "precious" in result.stderr
    assert option in result.stderr
    assert (places[option] / "precious").read_text(encoding="utf-8") == "mine"


def test_what_an_agent_makes_is_known_to_uninstall(tmp_path: Path) -> None:
    settings = Settings(Path(), run_dir=tmp_path)
    for path in (settings.admin_socket, settings.lease_file):
        path.touch()
    uninstalling.refuse_foreign(tmp_path, uninstalling.OURS_IN_RUN_DIR, "--run-dir")
    with pytest.raises(CliError, match=r"admin\.sock"):
        uninstalling.refuse_foreign(tmp_path, uninstalling.OURS_IN_BPFFS, "--bpffs")


# ---- what the kernel refuses ----


def test_a_refused_pin_asks_for_root_when_we_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = PermissionError(13, "Permission denied", "/sys/fs/bpf/nodeagent")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "run this as root" in from_system(refused).message
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "nodeagent doctor" in from_system(refused).message


def test_a_command_that_the_kernel_refuses_ends_with_1_and_a_message(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_bpffs: Path) -> None:
        raise PermissionError(13, "Permission denied", "/sys/fs/bpf/nodeagent")

    monkeypatch.setattr("nodeagent.cli.bypass.pins", refused)
    result = run("bypass", "on", "--bpffs", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Permission denied" in result.stderr
