"""The commands that work without an agent, on hooks that are really attached (to a cgroup that nothing lives in)."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from nodeagent.kernel import cgroups
from nodeagent.kernel.bytecode import Bytecode, compile_in_child
from nodeagent.kernel.hooks import HOOKS
from nodeagent.kernel.instance import Instance
from nodeagent.kernel.links import remove_link
from tests.cli.conftest import Run

pytestmark = pytest.mark.kernel


@dataclass
class Pinned:
    """An instance whose agent is gone."""

    instance: Instance
    directory: Path
    call: Run

    @property
    def bpffs(self) -> Path:
        return self.instance.layout.bpffs

    def cli(self, *arguments: object) -> Result:
        return self.call(*arguments, "--bpffs", self.bpffs, "--run-dir", self.directory / "run")

    def json(self, *arguments: object) -> Any:
        return json.loads(self.cli(*arguments, "-o", "json").stdout)


@pytest.fixture(scope="module")
def bytecode() -> Bytecode:
    return compile_in_child()


@pytest.fixture
def pinned(tmp_path: Path, run: Run, bytecode: Bytecode) -> Iterator[Pinned]:
    name = f"na-cli-{os.getpid()}-{secrets.token_hex(3)}"
    cgroup = cgroups.root() / name
    cgroup.mkdir()
    instance = Instance(cgroup, Path("/sys/fs/bpf") / name)
    try:
        instance.attach(bytecode=bytecode)
        yield Pinned(instance, tmp_path, run)
    finally:
        instance.detach()
        cgroup.rmdir()


def column(text: str, number: int) -> list[str]:
    return [line.split()[number] for line in text.splitlines()]


def test_programs_and_maps_are_listed_and_dumped(pinned: Pinned) -> None:
    progs = pinned.cli("bpf", "progs", "--no-headers")
    assert progs.exit_code == 0
    assert column(progs.stdout, 0) == [hook.name for hook in HOOKS]
    assert set(column(progs.stdout, 3)) == {"yes"}
    maps = column(pinned.cli("bpf", "maps", "--no-headers").stdout, 0)
    assert {"config", "pods", "destinations", "connections", "sockets"} <= set(maps)
    for name in maps:
        answer = pinned.json("bpf", "map", "dump", name)
        assert (answer["version"], answer["kind"]) == ("v1", name)
    assert f"bpffs={pinned.bpffs}" in pinned.cli("bpf", "map", "dump", "config").stdout


def test_a_map_that_does_not_exist_is_4_and_no_way_out_of_the_directory(pinned: Pinned) -> None:
    for name in ("nope", "../links/connect4"):
        result = pinned.cli("bpf", "map", "dump", name)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "there are blank_record, buckets, budgets, bypass, config," in result.stderr


def test_an_empty_map_is_said_on_stderr(pinned: Pinned) -> None:
    result = pinned.cli("bpf", "map", "dump", "pods")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "pods: no entries\n")


def test_status_tells_what_the_kernel_does_alone(pinned: Pinned) -> None:
    result = pinned.cli("status")
    assert result.exit_code == 3
    assert "not running; connections that need it go direct or are refused" in result.stdout
    assert f"attached (cgroup={pinned.instance.cgroup}" in result.stdout


def test_bypass_is_switched_and_seen_by_status_and_doctor(pinned: Pinned) -> None:
    assert pinned.cli("bypass", "on").exit_code == 0
    assert "BYPASS is on" in pinned.cli("status").stdout
    assert "‼ bypass is on" in pinned.cli("doctor").stdout
    assert pinned.cli("bypass", "off").exit_code == 0
    assert "BYPASS" not in pinned.cli("status").stdout
    assert "‼ bypass is on" not in pinned.cli("doctor").stdout


def test_doctor_looks_at_the_cgroup_of_the_pinned_instance_and_misses_only_the_agent(pinned: Pinned) -> None:
    result = pinned.cli("doctor")
    assert result.exit_code == 1
    failed = [line for line in result.stdout.splitlines() if line.startswith("×")]  # noqa: RUF001  # the mark
    assert failed == [f"× no agent answers on {pinned.directory / 'run'}"]  # noqa: RUF001
    assert f"on our hooks of {pinned.instance.cgroup}" in result.stdout
    assert f"all {len(HOOKS)} hooks are attached" in result.stdout


def test_doctor_names_another_instance_that_would_judge_the_same_sockets(pinned: Pinned) -> None:
    below = pinned.instance.cgroup / "below"
    below.mkdir()
    try:
        result = pinned.call("doctor", "--bpffs", f"{pinned.bpffs}-other", "--cgroup", below)
    finally:
        below.rmdir()
    assert result.exit_code == 1
    assert f"another instance: its cgroup {pinned.instance.cgroup} lies above ours" in result.stdout
    assert str(pinned.bpffs) in result.stdout


def test_a_hook_that_is_gone_is_found(pinned: Pinned) -> None:
    remove_link(pinned.instance.layout.link("connect6"))
    result = pinned.cli("doctor")
    assert "× not attached: connect6" in result.stdout  # noqa: RUF001
    rows = pinned.json("bpf", "progs")["items"]
    assert {row["hook"]: row["attached"] for row in rows} == {hook.name: hook.name != "connect6" for hook in HOOKS}


def test_uninstall_leaves_nothing_and_a_second_one_finds_nothing(pinned: Pinned) -> None:
    first = pinned.cli("uninstall", "--state-dir", pinned.directory)
    assert (first.exit_code, first.stdout) == (0, "")
    assert first.stderr.startswith(f"removed {pinned.bpffs}")
    assert not pinned.bpffs.exists()
    second = pinned.cli("uninstall", "--state-dir", pinned.directory)
    assert (second.exit_code, "nothing to remove" in second.stderr) == (0, True)
    assert pinned.cli("bpf", "progs").exit_code == 4
