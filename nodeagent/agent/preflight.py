"""What this machine must offer before an agent can run: each check says what, why it matters, how to fix it.

`run` refuses to start on a failed check, `doctor --pre` shows them.  Checks look, they change nothing
that outlives them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from nodeagent.kernel.release import version

# bpf_set_retval (connect's errno) and map access by descriptor without privileges are newer than the rest we use.
MIN_KERNEL = (5, 19)
MIN_NOFILE = 4096
# A worker gives up its uid and every capability (SETUID, SETGID, SETPCAP); the agent ends one that hangs (KILL).
CAPABILITIES = {5: "KILL", 6: "SETGID", 7: "SETUID", 8: "SETPCAP", 12: "NET_ADMIN", 21: "SYS_ADMIN"}
BPF_CAPABILITY = 39
USUAL_BPFFS = "/sys/fs/bpf"
APT_BCC = "apt-get install python3-bpfcc"
APT_SECCOMP = "apt-get install python3-seccomp"


class Level(Enum):
    OK = "success"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor.  `why` and `fix` are empty only when `level` is OK."""

    category: str
    check: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""


Check = Callable[[Path], Iterable[Finding]]


def _ok(check: str, what: str) -> Finding:
    return Finding("prerequisites", check, Level.OK, what)


def _error(check: str, what: str, why: str, fix: str) -> Finding:
    return Finding("prerequisites", check, Level.ERROR, what, why, fix)


def _warning(check: str, what: str, why: str, fix: str) -> Finding:
    return Finding("prerequisites", check, Level.WARNING, what, why, fix)


def run_all(bpffs: Path, bytecode: Path | None = None) -> list[Finding]:
    """`bpffs` is the directory where the instance pins, `bytecode` that of compiled programs, else BCC is needed."""
    found = [finding for check in CHECKS for finding in check(bpffs)]
    return found + list(check_bcc() if bytecode is None else check_bytecode(bytecode))


def failures(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level is Level.ERROR]


# ---- privileges ----


def check_root(_bpffs: Path) -> Iterable[Finding]:
    if os.geteuid() != 0:
        why = "loading BPF programs and entering pods' namespaces need root"
        yield _error("root", f"running as uid {os.geteuid()}, not as root", why, "sudo nodeagent ...")
        return
    yield _ok("root", "running as root")
    yield from _check_capabilities(_effective_capabilities(Path("/proc/self/status").read_text()))


def _effective_capabilities(status: str) -> int:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def _check_capabilities(mask: int) -> Iterable[Finding]:
    missing = [name for bit, name in CAPABILITIES.items() if not mask >> bit & 1]
    if missing and not mask >> BPF_CAPABILITY & 1:
        missing.append("BPF")
    if missing:
        names = ", ".join(missing)
        fix = f"add to the container's securityContext: capabilities: {{add: [{names}]}}"
        why = "root without them cannot attach, enter namespaces or confine workers"
        yield _error("capabilities", f"missing capabilities: {names}", why, fix)
    else:
        yield _ok("capabilities", "all needed capabilities are there")


# ---- kernel ----


def check_kernel(_bpffs: Path) -> Iterable[Finding]:
    release = os.uname().release
    if version(release) < MIN_KERNEL:
        wanted = ".".join(map(str, MIN_KERNEL))
        why = "older kernels lack BPF helpers that the connect hooks use"
        yield _error("kernel", f"Linux {release} is older than {wanted}", why, f"boot a kernel >= {wanted}")
    else:
        yield _ok("kernel", f"Linux {release}")


def mounts_of(mountinfo: str, fstype: str) -> list[str]:
    """Mount points of a file system type, from the text of /proc/self/mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == fstype:
            found.append(before.split(" ")[4])
    return found


def check_cgroup2(_bpffs: Path) -> Iterable[Finding]:
    mounts = mounts_of(Path("/proc/self/mountinfo").read_text(), "cgroup2")
    if mounts:
        yield _ok("cgroup2", f"cgroup2 is mounted at {mounts[0]}")
        return
    fix = "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
    yield _error("cgroup2", "no cgroup2 hierarchy is mounted", "the connect hooks attach to a cgroup2 directory", fix)


def check_bpffs(bpffs: Path) -> Iterable[Finding]:
    mounts = mounts_of(Path("/proc/self/mountinfo").read_text(), "bpf")
    above = [mount for mount in mounts if bpffs.is_relative_to(mount)]
    if above:
        yield _ok("bpffs", f"bpffs is mounted at {above[0]}")
        return
    why = f"programs and counters are pinned in {bpffs} so that they outlive the agent"
    fix = f"mount -t bpf bpf {USUAL_BPFFS}"
    if not bpffs.is_relative_to(USUAL_BPFFS):
        fix = f"choose a directory below {(mounts or [USUAL_BPFFS])[0]} with --bpffs, or mount -t bpf bpf {bpffs}"
    yield _error("bpffs", f"no bpffs is mounted above {bpffs}", why, fix)


# ---- BCC ----

# In a child: importing the real one costs 70 MB, and the impostor's code should not run in here.
_BCC_PROBE = """
try:
    import bcc
except ModuleNotFoundError as error:
    print("missing" if error.name == "bcc" else "broken", error)
except Exception as error:
    print("broken", error)
else:
    if hasattr(bcc, "BPF") and hasattr(bcc, "lib"):
        print("real", getattr(bcc, "__version__", "?"))
    elif bcc.__file__ is None:
        print("broken", list(bcc.__path__)[0], "holds no code")
    else:
        print("impostor", bcc.__file__)
"""


def check_bytecode(directory: Path) -> Iterable[Finding]:
    from nodeagent.kernel.bytecode_file import BytecodeFileError, Stamp, load

    try:
        load(directory, Stamp.here())
    except BytecodeFileError as error:
        yield _error("bytecode", error.what, error.why, error.fix)
    else:
        yield _ok("bytecode", f"the programs in {directory} are compiled for this kernel and version")


def check_bcc() -> Iterable[Finding]:
    probe = subprocess.run([sys.executable, "-c", _BCC_PROBE], capture_output=True, text=True, check=False, timeout=60)
    word, _, rest = (probe.stdout.strip() or f"broken {probe.stderr.strip()[-200:]}").partition(" ")
    yield bcc_finding(word, rest)


def bcc_finding(word: str, rest: str) -> Finding:
    why = "BCC compiles the BPF programs at start"
    if word == "real":
        return _ok("bcc", f"BCC {rest}")
    if word == "impostor":
        what = f"{rest} is not BCC but the unrelated project that PyPI calls bcc"
        return _error("bcc", what, why, f"{sys.executable} -m pip uninstall -y bcc && {APT_BCC}")
    if word == "missing":
        return _error("bcc", f"{sys.executable} cannot import bcc", why, APT_BCC + _in_venv())
    return _error("bcc", f"bcc does not import: {rest}", why, "apt-get install --reinstall python3-bpfcc")


def _in_venv() -> str:
    return " (and make the venv with --system-site-packages)" if sys.prefix != sys.base_prefix else ""


def check_seccomp(_bpffs: Path) -> Iterable[Finding]:
    if importlib.util.find_spec("seccomp") is not None:
        yield _ok("seccomp", "the seccomp module is there")
        return
    why = "workers give up system calls with it before they read anybody's bytes, and do not start without"
    yield _error("seccomp", f"{sys.executable} cannot import seccomp", why, APT_SECCOMP + _in_venv())


# ---- limits ----


def check_nofile(_bpffs: Path) -> Iterable[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MIN_NOFILE:
        why = "each proxied connection takes two descriptors of a worker"
        fix = f"ulimit -Hn {MIN_NOFILE * 16} (as root), or LimitNOFILE= in the unit"
        yield _warning("open files", f"the hard limit for open files is {hard}", why, fix)
    else:
        yield _ok("open files", f"the hard limit for open files is {hard}")


CHECKS: tuple[Check, ...] = (
    check_root,
    check_kernel,
    check_cgroup2,
    check_bpffs,
    check_seccomp,
    check_nofile,
)
