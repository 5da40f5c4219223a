"""Rings by directory, the guard of the pure ring, and the check that a run leaves nothing behind."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import leftovers

HERE = Path(__file__).parent
RINGS = {
    "core": "pure",
    "bench": "pure",
    "config": "pure",
    "status": "pure",
    "proxy": "loopback",
    "agent": "loopback",
    "kube": "loopback",
    "agent_kernel": "kernel",
    "cli": "loopback",
    "testbed": "kernel",
    "kernel": "kernel",
    "conformance": "kernel",
    "acceptance": "acceptance",
    "cluster": "cluster",
}
NEEDS_ROOT = {"kernel", "acceptance", "cluster"}
# Audit events that a pure test must not raise.  Creating a socketpair (an event loop's own wake-up pipe) raises none.
FORBIDDEN_IN_PURE = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "time.sleep"}

# The same examples on every run, so that a red test is red for everybody.  HYPOTHESIS_PROFILE=explore seeks new ones.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("explore", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

_guarded = False  # True while a test of the pure ring runs


def _audit(event: str, args: tuple[object, ...]) -> None:
    if _guarded and event in FORBIDDEN_IN_PURE:
        raise AssertionError(f"{event}{args}: the pure ring does no network and no sleep; move the test elsewhere")


sys.addaudithook(_audit)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--check-leftovers",
        action="store_true",
        help="fail if the run leaves a pin, link, program, device, netns, cgroup, mount, process (on a quiet machine)",
    )


def pytest_configure(config: pytest.Config) -> None:
    session = os.environ.setdefault(leftovers.SESSION_VARIABLE, secrets.token_hex(8))
    if config.getoption("--check-leftovers"):
        config.stash[_BEFORE] = leftovers.snapshot(session)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder not in RINGS:
            raise pytest.UsageError(f"{item.path}: tests/{folder} is in no ring; add it to RINGS in tests/conftest.py")
        item.add_marker(RINGS[folder])


@pytest.fixture(autouse=True)
def _ring_rules(request: pytest.FixtureRequest) -> Iterator[None]:
    """Guards the pure ring; fails (never skips) a kernel test that cannot run."""
    global _guarded  # noqa: PLW0603 - the audit hook has no other way to know
    marks = {mark.name for mark in request.node.iter_markers()}
    if marks & NEEDS_ROOT and os.geteuid() != 0:
        pytest.fail("this test needs root and a real kernel: run it as root (a skip would look like a pass)")
    _guarded = "pure" in marks
    try:
        yield
    finally:
        _guarded = False


_BEFORE = pytest.StashKey[frozenset[str]]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    left = leftovers.wait_until_clean(before, os.environ[leftovers.SESSION_VARIABLE])
    if left:
        session.config.stash[_LEFT] = left
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_LEFT = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(_BEFORE, None) is None:
        return
    left = config.stash.get(_LEFT, [])
    terminalreporter.section("left behind")
    nothing = "nothing: no pin, link, program, device, netns, cgroup, mount or process"
    terminalreporter.write_line("\n".join(left) or nothing)
