"""Acceptance of traffic 10: the property tests of the pure ring, with more examples than `make test` takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROPERTIES = {
    "precedence of matches": (
        "test_matching.py::test_the_first_match_beats_every_other_match",
        "test_route_index.py::test_walk_and_index_find_the_first_match",
        "test_judge.py::test_judge_agrees_with_the_plain_decision",
    ),
    "weights": (
        "test_balance.py::test_of_evenly_spread_random_numbers_each_backend_gets_its_weights_share",
        "test_balance.py::test_a_chosen_backend_has_weight_and_the_rest_is_a_random_number_again",
    ),
    "token bucket": (
        "test_ledger.py::test_a_bucket_never_grants_more_than_its_burst_and_rate_times_the_window",
        "test_ledger.py::test_a_bucket_is_full_at_first_and_fills_up_again",
        "test_ledger.py::test_wait_and_left_say_what_the_next_claims_will_be_told",
    ),
    "retry budget": (
        "test_ledger.py::test_retries_without_a_floor_stop_at_their_share_of_the_requests",
        "test_ledger.py::test_the_floor_is_granted_whatever_the_share",
    ),
    "limits together": ("test_ledger.py::test_claims_that_are_refused_together_change_nothing",),
    "ring hash": (
        "test_ring.py::test_an_endpoint_that_leaves_moves_its_own_keys_only_at_most_2_of_n",
        "test_ring.py::test_an_endpoint_that_comes_takes_keys_for_itself_only_at_most_2_of_n",
    ),
    "P2C": (
        "test_balance.py::test_two_choices_keep_the_highest_load_close_to_the_mean",
        "test_balance.py::test_two_choices_differ_and_the_cheaper_is_taken",
    ),
}
_COUNTS = re.compile(r" (\d+) passing(?: examples)?, (\d+) failing")


@dataclass(frozen=True, slots=True)
class Explored:
    """Of each property, by its test: examples that passed, and that failed; those of a test that did not run lack."""

    passed: Counter[str]
    failed: Counter[str]
    code: int
    said: str


def explore(seed: int, seconds: float) -> Explored:
    """Raises TimeoutExpired after so many seconds."""
    tests = [f"tests/core/{test}" for group in PROPERTIES.values() for test in group]
    argv = [sys.executable, "-m", "pytest", "-q", "--hypothesis-show-statistics", f"--hypothesis-seed={seed}", *tests]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "explore"}
    run = subprocess.run(
        argv, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    return Explored(*_examples(run.stdout), run.returncode, run.stdout + run.stderr)


def _examples(statistics: str) -> tuple[Counter[str], Counter[str]]:
    """Of all phases together; a test's lines follow its name, which ends its own line with a colon."""
    passed, failed, test = Counter[str](), Counter[str](), ""
    for line in statistics.splitlines():
        if line.startswith("tests/core/") and line.endswith(":"):
            test = line.removeprefix("tests/core/").removesuffix(":")
        elif found := _COUNTS.search(line):
            passed[test] += int(found[1])
            failed[test] += int(found[2])
    return passed, failed
