"""Whether a stop is an update or the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.own_daemonset import Sight, at_the_end, listed, watched

HERE: dict[str, Any] = {"metadata": {"name": "nodeagent"}}
GOING: dict[str, Any] = {"metadata": {"name": "nodeagent", "deletionTimestamp": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(("items", "sight"), [([], Sight.GONE), ([HERE], Sight.PRESENT), ([GOING], Sight.GONE)])
def test_a_list_shows_it_or_its_end(items: list[dict[str, Any]], sight: Sight) -> None:
    assert listed(items) is sight


@pytest.mark.parametrize(
    ("kind", "item", "sight"),
    [
        ("ADDED", HERE, Sight.PRESENT),
        ("MODIFIED", HERE, Sight.PRESENT),
        ("MODIFIED", GOING, Sight.GONE),
        ("DELETED", HERE, Sight.GONE),
    ],
)
@pytest.mark.parametrize("before", Sight)
def test_an_event_shows_it_or_its_end_whatever_was_before(
    kind: str, item: dict[str, Any], sight: Sight, before: Sight
) -> None:
    assert watched(kind, item, before) is sight


@pytest.mark.parametrize("before", Sight)
def test_a_bookmark_says_nothing(before: Sight) -> None:
    assert watched("BOOKMARK", {"metadata": {}}, before) is before


@pytest.mark.parametrize(
    ("asked", "followed", "sight"),
    [
        (Sight.PRESENT, Sight.GONE, Sight.PRESENT),  # deleted, and made again
        (Sight.GONE, Sight.PRESENT, Sight.GONE),
        (Sight.UNKNOWN, Sight.GONE, Sight.GONE),  # the right to ask was deleted first
        (Sight.UNKNOWN, Sight.PRESENT, Sight.UNKNOWN),
        (Sight.UNKNOWN, Sight.UNKNOWN, Sight.UNKNOWN),
    ],
)
def test_the_last_answer_counts_and_else_an_end_that_was_seen(asked: Sight, followed: Sight, sight: Sight) -> None:
    assert at_the_end(asked, followed) is sight


@given(asked=st.sampled_from(Sight), followed=st.sampled_from(Sight))
def test_it_is_an_end_only_if_somebody_said_so_and_nobody_denied_it_since(asked: Sight, followed: Sight) -> None:
    if at_the_end(asked, followed) is Sight.GONE:
        assert Sight.GONE in (asked, followed)
        assert asked is not Sight.PRESENT
