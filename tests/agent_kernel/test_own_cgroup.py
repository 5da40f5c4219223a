"""The agent knows its own cgroup where the kernel shows another one: in a cgroup namespace, as containers have it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.agent import own_cgroup
from nodeagent.kernel import cgroups
from tests.acceptance.shop import Shop, deny, open_shop
from tests.testbed.agent import REPOSITORY

# What a runtime does before it starts a container's process, where there is cgroup2 alone.
HIDDEN = (
    "-c",
    "import os, sys; os.execvp('unshare', ['unshare', '--cgroup', sys.executable, '-m', 'nodeagent', *sys.argv[1:]])",
)
SAY = "from nodeagent.agent import own_cgroup; print(open('/proc/self/cgroup').read(), own_cgroup.current(), sep='|')"


@pytest.fixture
def place() -> Iterator[Path]:
    path = cgroups.root() / f"nak-own-{os.getpid()}"
    (path / "container").mkdir(parents=True)
    try:
        yield path / "container"
    finally:
        (path / "container").rmdir()
        path.rmdir()


def said_in(place: Path, *wrapped: str) -> tuple[str, str]:
    """/proc/self/cgroup, and what the agent makes of it, of a process in that cgroup."""
    argv = ["sh", "-c", f'echo $$ >{place}/cgroup.procs && exec "$@"', "sh", *wrapped, sys.executable, "-c", SAY]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(REPOSITORY)})
    told, _, found = done.stdout.strip().partition("|")
    return told, found


def test_a_process_in_the_nodes_cgroup_namespace_is_where_the_kernel_says(place: Path) -> None:
    told, found = said_in(place)
    assert f"0::/{place.relative_to(cgroups.root())}\n" in told
    assert found == str(place)


def test_a_process_in_a_cgroup_namespace_of_its_own_finds_its_cgroup(place: Path) -> None:
    told, found = said_in(place, "unshare", "--cgroup")
    assert "0::/\n" in told
    assert found == str(place)


def test_a_process_with_a_pid_namespace_too_finds_its_cgroup_by_the_pid_that_it_has_there(place: Path) -> None:
    told, found = said_in(place, "unshare", "--cgroup", "--pid", "--fork", "--mount-proc")
    assert "0::/\n" in told
    assert found == str(place)


def test_a_hierarchy_in_which_we_are_not_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / own_cgroup.PROCS).write_text("1\n0\n")
    monkeypatch.setattr(cgroups, "root", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="lists our process"):
        own_cgroup.current()


@pytest.fixture
def shop() -> Iterator[Shop]:
    with open_shop(start=False) as made:
        made.bed.manifests.write("40-deny.yaml", deny("no-post", "catalog", "web", http={"methods": ["POST"]}))
        made.agent.main = HIDDEN
        yield made


def test_an_agent_in_a_cgroup_namespace_exempts_its_own_cgroup_and_serves(shop: Shop) -> None:
    """Would it exempt another one, its workers' connections were redirected to themselves, or pods' not at all."""
    shop.agent.start()
    own = shop.agent.cgroup / "agent"
    below = [path.name for path in own.iterdir() if path.is_dir() and not path.name.endswith("-canary")]
    [name] = below or [""]
    exempt = cgroups.cgroup_id(own / name)
    rows = shop.agent.cli_json("bpf", "map", "dump", "exempt_cgroups")["items"]
    assert exempt in {value for row in rows for value in row.values()}
    assert shop.get(shop.web, shop.url(1)) == 200
    assert shop.get(shop.web, shop.url(1), "-X", "POST") == 403
