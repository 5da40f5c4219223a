"""What the doctor says of a machine, from texts and modules that a test makes."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from nodeagent.agent import preflight
from nodeagent.agent.preflight import Finding, Level

PINS = Path("/sys/fs/bpf/nodeagent")
MOUNTINFO = """\
24 1 0:22 / /sys rw - sysfs sysfs rw
31 24 0:27 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw
32 24 0:28 / /sys/fs/bpf rw - bpf bpf rw,mode=700
"""


def only(findings: Iterable[Finding]) -> Finding:
    (found,) = findings
    return found


def actionable(finding: Finding) -> bool:
    return bool(finding.what and finding.why and finding.fix)


def with_mounts(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """/proc/self/mountinfo reads as `text`."""
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: text if path == Path("/proc/self/mountinfo") else read(path))


@pytest.mark.parametrize(("fstype", "mounts"), [("bpf", ["/sys/fs/bpf"]), ("cgroup2", ["/sys/fs/cgroup/unified"])])
def test_mounts_are_found_by_type_with_and_without_optional_fields(fstype: str, mounts: list[str]) -> None:
    assert preflight.mounts_of(MOUNTINFO, fstype) == mounts


def test_a_mounted_bpffs_above_the_pins_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mounts(monkeypatch, MOUNTINFO)
    assert only(preflight.check_bpffs(PINS)).level is Level.OK
    assert only(preflight.check_cgroup2(PINS)).level is Level.OK


def test_without_bpffs_the_fix_is_the_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mounts(monkeypatch, MOUNTINFO.splitlines()[0])
    finding = only(preflight.check_bpffs(PINS))
    assert (finding.level, finding.fix) == (Level.ERROR, "mount -t bpf bpf /sys/fs/bpf")
    assert actionable(only(preflight.check_cgroup2(PINS)))


def test_pins_outside_of_bpffs_are_told_to_move(monkeypatch: pytest.MonkeyPatch) -> None:
    with_mounts(monkeypatch, MOUNTINFO)
    finding = only(preflight.check_bpffs(Path("/tmp/pins")))
    assert finding.level is Level.ERROR
    assert "below /sys/fs/bpf with --bpffs" in finding.fix


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    finding = only(preflight.check_root(PINS))
    assert (finding.level, actionable(finding)) == (Level.ERROR, True)
    assert "uid 1000" in finding.what


@pytest.mark.parametrize(
    ("mask", "missing"),
    [
        (0, "KILL, SETGID, SETUID, SETPCAP, NET_ADMIN, SYS_ADMIN, BPF"),
        (0x1E0 | 1 << 12, "SYS_ADMIN, BPF"),
        (0x1E0 | 1 << 12 | 1 << 39, "SYS_ADMIN"),
        (1 << 12 | 1 << 21, "KILL, SETGID, SETUID, SETPCAP, BPF"),
        (0x1E0 | 1 << 12 | 1 << 21, ""),
    ],
)
def test_missing_capabilities_are_named_as_the_container_wants_them(
    monkeypatch: pytest.MonkeyPatch, mask: int, missing: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    read = Path.read_text
    status = f"Name:\tx\nCapEff:\t{mask:016x}\n"
    monkeypatch.setattr(Path, "read_text", lambda path: status if path == Path("/proc/self/status") else read(path))
    root, capabilities = preflight.check_root(PINS)
    assert root.level is Level.OK
    assert (capabilities.level is Level.ERROR) is bool(missing)
    assert missing in capabilities.what
    assert f"[{missing}]" in capabilities.fix or not missing


@pytest.mark.parametrize(
    ("release", "level"),
    [
        ("5.19.0-1-amd64", Level.OK),
        ("6.1.0-18", Level.OK),
        ("5.18.9", Level.ERROR),
        ("4.19", Level.ERROR),
        ("unknown", Level.ERROR),
    ],
)
def test_the_kernel_must_be_new_enough(monkeypatch: pytest.MonkeyPatch, release: str, level: Level) -> None:
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((real[0], real[1], release, real[3], real[4])))
    finding = only(preflight.check_kernel(PINS))
    assert finding.level is level
    assert level is Level.OK or actionable(finding)


@pytest.mark.parametrize(
    ("hard", "level"), [(1024, Level.WARNING), (4096, Level.OK), (resource.RLIM_INFINITY, Level.OK)]
)
def test_few_descriptors_are_a_warning(monkeypatch: pytest.MonkeyPatch, hard: int, level: Level) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (hard, hard))
    assert only(preflight.check_nofile(PINS)).level is level


# ---- BCC, by what a real interpreter finds ----

REAL = "__version__ = '0.26.0'\nlib = object()\nclass BPF: pass\n"


def probe(monkeypatch: pytest.MonkeyPatch, front: Path) -> Finding:
    """The real child process, with `front` first on its path."""
    monkeypatch.setenv("PYTHONPATH", str(front))
    return only(preflight.check_bcc())


@pytest.mark.parametrize(
    ("code", "level", "what", "fix"),
    [
        (REAL, Level.OK, "BCC 0.26.0", ""),
        ("def lattice(): pass\n", Level.ERROR, "unrelated project that PyPI", "pip uninstall -y bcc && apt-get"),
        ("import no_such_dependency\n", Level.ERROR, "does not import: No module named", "--reinstall python3-bpfcc"),
        ("raise OSError('libbcc.so.0: cannot open')\n", Level.ERROR, "libbcc.so.0", "--reinstall python3-bpfcc"),
        ("import os; os._exit(3)\n", Level.ERROR, "does not import", "--reinstall python3-bpfcc"),
    ],
)
def test_bcc_is_told_from_its_impostor_and_from_a_broken_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, level: Level, what: str, fix: str
) -> None:
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text(code, encoding="utf-8")
    finding = probe(monkeypatch, tmp_path)
    assert finding.level is level
    assert what in finding.what
    assert fix in finding.fix


# Before the probe: an interpreter that sees the standard library and PYTHONPATH alone.
NO_PACKAGES = "import sys\nsys.path = [path for path in sys.path if not path.endswith('-packages')]\n"


def test_a_missing_bcc_is_an_apt_package_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(preflight, "_BCC_PROBE", NO_PACKAGES + preflight._BCC_PROBE)
    finding = probe(monkeypatch, tmp_path)
    assert (finding.level, actionable(finding)) == (Level.ERROR, True)
    assert f"{sys.executable} cannot import bcc" in finding.what
    assert finding.fix.startswith("apt-get install python3-bpfcc")


def test_an_empty_directory_is_neither_bcc_nor_its_impostor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bcc").mkdir()
    monkeypatch.setattr(preflight, "_BCC_PROBE", NO_PACKAGES + preflight._BCC_PROBE)
    finding = probe(monkeypatch, tmp_path)
    assert f"{tmp_path / 'bcc'} holds no code" in finding.what
    assert "--reinstall" in finding.fix


def test_a_missing_seccomp_is_an_apt_package_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    finding = only(preflight.check_seccomp(PINS))
    assert (finding.level, actionable(finding)) == (Level.ERROR, True)
    assert finding.fix.startswith("apt-get install python3-seccomp")


def test_every_finding_that_is_not_ok_can_be_acted_on() -> None:
    """On this machine, whatever it is."""
    findings = preflight.run_all(PINS)
    assert len(findings) >= len(preflight.CHECKS)
    assert [finding for finding in findings if finding.level is not Level.OK and not actionable(finding)] == []
