"""What the Vagrantfile runs exists, and is what the Makefile runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Vagrantfile").read_text()


def test_each_target_is_one_of_the_makefile() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set(re.findall(r"make -C /nodeagent ([a-z-]+)", TEXT))
    assert called
    assert called <= known


def test_each_script_is_there_and_can_be_run() -> None:
    scripts = re.findall(r"/nodeagent/(hack/\S+)\"", TEXT)
    assert scripts == ["hack/setup.sh"]
    assert all((ROOT / script).stat().st_mode & 0o111 for script in scripts)


def test_each_provisioner_that_is_named_in_the_head_is_defined() -> None:
    named = {name for names in re.findall(r"--provision-with ([\w,]+)", TEXT) for name in names.split(",")}
    assert named <= set(re.findall(r'config\.vm\.provision "(\w+)"', TEXT))


def test_vagrant_up_sets_up_and_runs_demo_and_tests_in_this_order() -> None:
    provisioners = re.findall(r'config\.vm\.provision "(\w+)", type: "shell", (run: "never")?', TEXT)
    assert [name for name, never in provisioners if not never] == ["setup", "demo", "test"]
