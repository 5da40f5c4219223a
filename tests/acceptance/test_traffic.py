"""Acceptance of traffic management: one test per line, named by its rule, each printing its figure.

`make acceptance AREA=traffic` runs them all; they take minutes and want a quiet machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance import splits
from tests.acceptance.figures import show
from tests.acceptance.shop import open_shop

REPOSITORY = Path(__file__).resolve().parents[2]
REQUESTS = 20_000
LIKELY = 5  # sigma: one of 20 spans is further off in less than one of 1,000 runs


def test_01_gateway_api_mesh_conformance_passes() -> None:
    argv = [sys.executable, "-m", "pytest", "-q", "tests/conformance"]
    run = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    [said] = [line for line in run.stdout.splitlines() if "extended features" in line] or ["no summary"]
    show(said)
    assert run.returncode == 0, run.stdout + run.stderr
    assert said == (
        "21 of 23 tests (20 of 22 of the upstream's files): 21 of 21 HTTP tests, 7 of 7 core, "
        "9 of 9 extended features; 2 gRPC not yet"
    )


@pytest.mark.parametrize("weights", [(99, 1), (80, 20)], ids=["99-1", "80-20"])
def test_09_a_weighted_split_is_within_3_sigma(weights: tuple[int, int]) -> None:
    share = weights[1] / sum(weights)
    with open_shop() as stand:
        split = splits.over(stand, weights, REQUESTS)
    show(
        f"{weights[0]}/{weights[1]}: {split.v1} + {split.v2} of {split.requests} requests, "
        f"{split.sigmas(share):.2f} sigma off; {split.not_200} not answered 200"
    )
    assert split.not_200 == 0
    assert split.v1 + split.v2 == split.requests
    assert split.sigmas(share) <= 3


def test_09_live_changes_of_weights_fail_no_request() -> None:
    with open_shop() as stand:
        result = splits.live(stand, changes=20, spacing=1.0)
    show(
        f"{result.made} changes of weights under {result.responses} requests, {result.failed} failed; "
        f"between two changes at least {result.smallest} requests, at most {result.sigmas:.2f} sigma off"
    )
    assert result.made == 20
    assert result.failed == 0
    assert result.smallest >= 100
    assert result.sigmas <= LIKELY
