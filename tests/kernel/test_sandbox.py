"""What a confined worker cannot do, tried by a process that confined itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

PROLOGUE = """
import ctypes, json, os, resource, socket, subprocess, sys
from nodeagent.proxy import sandbox
quiet = subprocess.DEVNULL
other = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, user=65534)  # ends with us
libc = ctypes.CDLL(None, use_errno=True)
mine, theirs = socket.socketpair()
sandbox.confine_worker()

def tried(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0

def call(*arguments):
    if libc.syscall(*arguments) != 0:
        raise OSError(ctypes.get_errno(), "refused")
"""

EPERM = 1
REFUSED = {
    "make a socket": "socket.socket()",
    "start a process": "os.fork()",
    "write a file": "open('/dev/shm/nodeagent-sandbox', 'w')",
    "signal another process": "os.kill(other.pid, 0)",
    "signal a thread of another process": "call(234, other.pid, other.pid, 9)",
    "change limits of another process": "resource.prlimit(other.pid, resource.RLIMIT_NOFILE, (8, 8))",
    "become root again": "os.setuid(0)",
    "create a map": "call(321, 0, 0, 0)",
    "enter a namespace": "call(308, 0, 0)",
}
ALLOWED = {
    "use its sockets": "(mine.send(b'x'), theirs.recv(1))",
    "read what everybody may": "open('/etc/passwd').read()",
    "ask for its own limits": "resource.getrlimit(resource.RLIMIT_NOFILE)",
}


def run(body: str) -> subprocess.CompletedProcess[str]:
    program = textwrap.dedent(PROLOGUE) + body
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, timeout=60, check=False
    )


def outcomes(actions: dict[str, str]) -> dict[str, int]:
    table = ", ".join(f"{name!r}: tried(lambda: {action})" for name, action in actions.items())
    done = run(f"print(json.dumps({{{table}}}))\n")
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_a_confined_worker_is_refused_what_serving_does_not_need() -> None:
    assert outcomes(REFUSED) == dict.fromkeys(REFUSED, EPERM)


def test_a_confined_worker_can_do_what_serving_needs() -> None:
    assert outcomes(ALLOWED) == dict.fromkeys(ALLOWED, 0)


@pytest.mark.parametrize("action", ["os.execv('/bin/true', ['true'])", "call(101, 0, 0, 0, 0)"])
def test_a_confined_worker_that_executes_or_traces_is_killed(action: str) -> None:
    assert run(f"tried(lambda: {action})\n").returncode == -signal.SIGSYS


def test_a_confined_worker_has_no_identity_and_no_capability() -> None:
    body = "status = open('/proc/self/status').read()\nprint(status)\n"
    lines = dict(line.split(":\t", 1) for line in run(body).stdout.splitlines() if ":\t" in line)
    assert set(lines["Uid"].split()) == set(lines["Gid"].split()) == {"65534"}
    assert lines["Groups"].strip() == ""
    assert {int(lines[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (lines["NoNewPrivs"], lines["Seccomp"]) == ("1", "2")
