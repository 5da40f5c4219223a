"""Bounds come from what the machine grants, and no grant is spent twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.bounds import IDLE_CONNECTION_BYTES, MIB, RESERVED_FDS, Bounds, derive

MEMORY = st.one_of(st.none(), st.integers(64 * MIB, 64 * 1024 * MIB))
NOFILE = st.integers(1024, 1 << 20)


@given(MEMORY, NOFILE, st.integers(1, 8))
def test_descriptors_of_all_connections_and_some_for_the_admin_side_fit(
    memory: int | None, nofile: int, workers: int
) -> None:
    bounds = derive(memory, nofile, workers)
    others = RESERVED_FDS + bounds.upstream_idle_total + bounds.socket_stock + bounds.mirrors
    assert 2 * bounds.connections + others <= nofile


@given(st.integers(64 * MIB, 64 * 1024 * MIB), NOFILE, st.integers(1, 8))
def test_all_workers_together_stay_within_the_memory_limit(memory: int, nofile: int, workers: int) -> None:
    bounds = derive(memory, nofile, workers)
    assert workers * (bounds.connections * IDLE_CONNECTION_BYTES + bounds.buffered) <= memory


@given(MEMORY, NOFILE, st.integers(1, 8))
def test_no_pod_can_take_every_connection_of_a_worker(memory: int | None, nofile: int, workers: int) -> None:
    bounds = derive(memory, nofile, workers)
    assert 8 <= bounds.connections_per_pod < bounds.connections


def test_bounds_survive_the_way_to_a_worker() -> None:
    bounds = derive(256 * MIB, 20_000, 2)
    assert Bounds.from_json(bounds.as_json()) == bounds


def test_the_usual_node_serves_five_thousand_connections_of_one_pod() -> None:
    assert derive(None, 20_000, 1).connections_per_pod >= 5_000
