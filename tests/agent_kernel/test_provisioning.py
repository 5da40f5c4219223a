"""What `vagrant up` runs first is run here, word by word, on a copy of this tree that is thrown away."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VAGRANTFILE = (ROOT / "Vagrantfile").read_text(encoding="utf-8")
# A layer over each place, in a mount namespace of its own: what is written goes with it.
IN_A_COPY = """
set -e
mount -t tmpfs layers "$1"; layers=$1; script=$2; shift 2
for place; do
    layer=$layers/$((number += 1)); mkdir -p $layer/upper $layer/work
    mount -t overlay -o "lowerdir=$place,upperdir=$layer/upper,workdir=$layer/work" overlay "$place"
done
cd /
exec bash -c "$script"
"""


def inline(name: str) -> str:
    """The command of a provisioner, with this tree for the folder that is copied into the machine."""
    [command] = re.findall(rf'provision "{name}", type: "shell", inline: "(.*)"$', VAGRANTFILE, re.MULTILINE)
    return str(command).replace("/nodeagent", str(ROOT))


def in_a_copy(script: str, layers: Path) -> str:
    venv = (ROOT / ".venv").resolve()
    places = [ROOT] if venv.is_relative_to(ROOT) else [ROOT, venv]  # where .venv is a link into another tree
    argv = ["unshare", "--mount", "bash", "-c", IN_A_COPY, "in-a-copy", str(layers), script, *map(str, places)]
    run = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout
    return run.stdout


def test_the_machine_is_set_up_and_a_second_time_there_is_nothing_to_do(tmp_path: Path) -> None:
    setup = inline("setup")
    first, second = in_a_copy(f"{setup} && echo ---- && {setup}", tmp_path).split("----\n")
    assert first.endswith("set-up: ready\n")
    assert second == "set-up: ready\n"


def test_a_machine_whose_packages_are_not_those_of_the_lock_file_is_set_up_anew(tmp_path: Path) -> None:
    stale = f"echo another >{ROOT}/.venv/.set-up && {inline('setup')} && cat {ROOT}/.venv/.set-up"
    said = in_a_copy(stale, tmp_path)
    assert "each checked against its hash" in said
    assert said.rstrip().endswith(str(ROOT)), "the mark is not the one of this tree"


def test_the_makefile_which_ci_uses_runs_the_same_script() -> None:
    ask = ["make", "-n", "--no-print-directory", "setup"]  # this runs below a make, as a rule, which make would tell
    plan = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert str(ROOT / plan.strip()) == inline("setup")
