"""Ratios are paired by round; rows hold medians; wrk's line is read exactly."""

from __future__ import annotations

import pytest

from bench import stats, targets, wrk
from bench.cases import CASES, cases_named
from bench.errors import ChildFailedError, UnknownNameError
from bench.profile import tally


def sample(path: str, number: int, rps: float, cpu_us: float | None = None, errors: int = 0) -> stats.Sample:
    return stats.Sample("keepalive-c32", path, number, rps, 100, 200, cpu_us, 30.0, 0.0, errors)


def test_a_ratio_is_taken_within_each_round_so_that_drift_cancels() -> None:
    halving = [(1, 8000.0), (2, 4000.0), (3, 2000.0)]
    samples = [sample("envoy", number, rps) for number, rps in halving]
    samples += [sample("rung3", number, rps * 2) for number, rps in halving]
    assert stats.paired(samples, "rung3", ["envoy"]) == 2.0


def test_everything_but_direct_itself_is_compared_with_the_mean_of_both_direct_runs() -> None:
    samples = [sample("direct", 1, 90.0), sample("direct-again", 1, 110.0), sample("rung1", 1, 97.0)]
    assert stats.row_of(samples, "rung1").vs_direct == pytest.approx(0.97)
    assert stats.row_of(samples, "direct-again").vs_direct == pytest.approx(110 / 90)


def test_a_path_that_did_not_run_leaves_no_ratio_and_no_row() -> None:
    samples = [sample("direct", 1, 90.0)]
    assert stats.row_of(samples, "direct").vs_envoy is None
    assert [row.path for row in stats.rows_of(samples, ("direct", "envoy"))] == ["direct"]


@pytest.mark.parametrize(("again", "steady"), [(100.0, True), (101.9, True), (97.9, False), (103.0, False)])
def test_the_machine_is_steady_when_two_direct_runs_differ_by_at_most_two_percent(again: float, steady: bool) -> None:
    assert stats.is_steady([sample("direct", 1, 100.0), sample("direct-again", 1, again)]) is steady


def test_errors_add_up_and_cpu_is_a_median_where_there_is_a_proxy() -> None:
    samples = [sample("rung3", number, 10.0, cpu, 1) for number, cpu in [(1, 30.0), (2, 50.0), (3, 31.0)]]
    row = stats.row_of(samples, "rung3")
    assert (row.cpu_us, row.errors, row.rounds) == (31.0, 3, 3)


def test_a_missed_goal_and_errors_are_said() -> None:
    samples = [sample("direct", 1, 100.0), sample("rung1", 1, 90.0, errors=2)]
    lines = targets.verdicts(stats.rows_of(samples, ("direct", "rung1")))
    assert lines == [
        "MISSED keepalive-c32 rung1 vs_direct 0.900 (goal >= 0.97)",
        "ERRORS 2 in keepalive-c32 rung1",
    ]


@pytest.mark.parametrize(("status", "above_399", "errors"), [(200, 0, 3), (200, 5, 8), (403, 10, 3), (403, 8, 5)])
def test_an_answer_of_the_wrong_kind_is_an_error_whichever_kind_is_right(
    status: int, above_399: int, errors: int
) -> None:
    load = wrk.parse(f"Running\nresult 10 2000000 450 40 90 {above_399} 3\n", status)
    assert (load.rps, load.p50_us, load.p99_us, load.errors) == (5.0, 40, 90, errors)


def test_wrk_without_a_result_is_a_failure() -> None:
    with pytest.raises(ChildFailedError, match="unable to connect"):
        wrk.parse("unable to connect", 200)


def test_cases_are_chosen_by_name_in_the_fixed_order() -> None:
    assert [case.name for case in cases_named("deny keepalive-c1")] == ["keepalive-c1", "deny"]
    assert cases_named("") == CASES
    with pytest.raises(UnknownNameError, match="nonsense"):
        cases_named("nonsense")


def test_self_time_is_the_top_frame_and_a_recursive_frame_counts_once() -> None:
    own, total = tally("a;b;b 3\na 2")
    assert own == {"b": 3, "a": 2}
    assert total == {"a": 5, "b": 3}
