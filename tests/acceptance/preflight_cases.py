"""`nodeagent doctor --pre` as a process, on this machine as it is and with one prerequisite really missing.

What is taken away is taken away in a mount namespace, a uid or a search path of that one process: the
machine stays as it is.  Needs root (to make the namespaces), also for the case without root.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
DOCTOR = (sys.executable, "-m", "nodeagent", "doctor", "--pre")
NOBODY = "65534"
MARKS = ("√", "‼", "×")  # noqa: RUF001  # as the doctor prints them

# The package that PyPI calls bcc: "N-dim invertible BCC lattice", no BPF in it.
IMPOSTOR = '"""N-dim invertible BCC lattice"""\n\n\ndef lattice(n):\n    return [[0] * n, [0.5] * n]\n'

# $1 is the directory that holds bcc, $2 an empty one; the rest is the command.  What remains of $1 is linked to.
WITHOUT_BCC = """
set -e
shown=$1 kept=$2; shift 2
mount --bind "$shown" "$kept"
mount -t tmpfs none "$shown"
for entry in "$kept"/*; do
    case ${entry##*/} in bcc|bcc-*) ;; *) ln -s "$entry" "$shown/" ;; esac
done
exec "$@"
"""
# $1 is a command to run afterwards, "" for none; the rest is the command.
WITHOUT_BPFFS = """
set -e
fix=$1; shift
while mounts=$(findmnt -rn -t bpf -o TARGET); do
    for mount in $mounts; do umount "$mount"; done
done
eval "$fix"
exec "$@"
"""


class Outcome(NamedTuple):
    code: int
    stdout: str


def as_it_is() -> Outcome:
    return _run(DOCTOR)


def without_root() -> Outcome:
    """As nobody; it may read files that only root can, since the repository may lie in root's home."""
    may_read = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    return _run(("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", *may_read, *DOCTOR))


def without_bpffs(fix: str = "") -> Outcome:
    """`fix` is run after bpffs was taken away: with what the doctor advises there is nothing left to say."""
    return _run(_in_own_mounts(WITHOUT_BPFFS, fix))


def without_bcc() -> Outcome:
    """The package's directory is gone from the one that Debian installs it to; its other packages stay."""
    found = importlib.util.find_spec("bcc")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("bcc is not installed, so it cannot be taken away: apt-get install python3-bpfcc")
    packages = Path(found.submodule_search_locations[0]).parent
    with tempfile.TemporaryDirectory() as empty:
        return _run(_in_own_mounts(WITHOUT_BCC, str(packages), empty))


def with_impostor() -> Outcome:
    """A package bcc without BPF is found first."""
    with tempfile.TemporaryDirectory() as front:
        package = Path(front, "bcc")
        package.mkdir()
        (package / "__init__.py").write_text(IMPOSTOR, encoding="utf-8")
        return _run(("env", f"PYTHONPATH={front}", *DOCTOR))


def fixes(stdout: str) -> list[str]:
    return [line.removeprefix("    fix: ") for line in stdout.splitlines() if line.startswith("    fix: ")]


def unactionable(stdout: str) -> list[str]:
    """Lines that nobody can act on: a mark of success, or a finding without its reason or its fix."""
    lines = stdout.splitlines()
    bad = [line for line in lines if not line.startswith((*MARKS[1:], "    why: ", "    fix: "))]
    for index, line in enumerate(lines):
        follow = [next_line[:9] for next_line in lines[index + 1 : index + 3]]
        if line.startswith(MARKS[1:]) and follow != ["    why: ", "    fix: "]:
            bad.append(line)
    return bad


def _in_own_mounts(script: str, *arguments: str) -> tuple[str, ...]:
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *arguments, *DOCTOR)


def _run(argv: tuple[str, ...]) -> Outcome:
    done = subprocess.run(
        argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        raise RuntimeError(f"doctor --pre ended with {done.returncode} instead of a finding:\n{done.stderr}")
    return Outcome(done.returncode, done.stdout)
