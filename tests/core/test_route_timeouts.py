"""Durations of Gateway API, and what is said of the timeouts of a rule."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.durations import PATTERN, duration_text, milliseconds
from nodeagent.core.route_timeouts import (
    BACKEND_REQUEST_TIMEOUT,
    REQUEST_TIMEOUT,
    RouteTimeouts,
    described,
    timeout_detail,
)

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", 0),
        ("0h0m0s0ms", 0),
        ("1ms", 1),
        ("1s", SECOND),
        ("1m", MINUTE),
        ("1h", HOUR),
        ("500ms", 500),
        ("1m30s", 90 * SECOND),
        ("1h5ms", HOUR + 5),
        ("1m1ms", MINUTE + 1),
        ("1ms1m", MINUTE + 1),
        ("10s30m1h", 10 * SECOND + 30 * MINUTE + HOUR),
        ("1s1s1s1s", 4 * SECOND),
        ("99999h", 99_999 * HOUR),
        ("00001s", SECOND),
    ],
)
def test_durations_add_up(text: str, expected: int) -> None:
    assert re.fullmatch(PATTERN, text)
    assert milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "1", "s", "1.5s", "-1s", "+1s", "1us", "1 s", "100000s", "1s1s1s1s1s", "1S"])
def test_what_is_no_duration_does_not_match(text: str) -> None:
    assert not re.fullmatch(PATTERN, text)


@given(st.integers(0, 99_999 * HOUR + 59 * MINUTE + 59 * SECOND + 999))
def test_a_duration_reads_back_as_what_was_written(total: int) -> None:
    text = duration_text(total)
    assert re.fullmatch(PATTERN, text)
    assert milliseconds(text) == total


@given(st.lists(st.tuples(st.integers(0, 99_999), st.sampled_from(["h", "m", "s", "ms"])), min_size=1, max_size=4))
def test_every_part_counts_whatever_the_order(parts: list[tuple[int, str]]) -> None:
    sizes = {"h": HOUR, "m": MINUTE, "s": SECOND, "ms": 1}
    text = "".join(f"{count}{unit}" for count, unit in parts)
    assert re.fullmatch(PATTERN, text)
    assert milliseconds(text) == sum(count * sizes[unit] for count, unit in parts)


def test_only_timeouts_that_limit_something_are_described() -> None:
    assert described(None) == []
    assert described(RouteTimeouts(0, 500)) == ["backendRequest 500ms"]
    assert described(RouteTimeouts(1000, 500)) == ["request 1s", "backendRequest 500ms"]


def test_the_detail_names_the_field_and_its_rule() -> None:
    timeouts = RouteTimeouts(1500, 500)
    assert timeout_detail(timeouts, REQUEST_TIMEOUT, "shop/r", "slow") == (
        "no response came within 1s500ms, timeouts.request of rule slow of HTTPRoute shop/r"
    )
    assert "500ms, timeouts.backendRequest of" in timeout_detail(timeouts, BACKEND_REQUEST_TIMEOUT, "shop/r", "slow")
