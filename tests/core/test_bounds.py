"""Bounds come from what the machine grants, and no grant is spent twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.bounds import (
    IDLE_CONNECTION_BYTES,
    KIB,
    MIB,
    REQUEST_BYTES,
    RESERVED_FDS,
    Bounds,
    client_caps,
    derive,
    server_caps,
)
from nodeagent.core.traffic import PodLimits

MEMORY = st.one_of(st.none(), st.integers(64 * MIB, 64 * 1024 * MIB))
NOFILE = st.integers(1024, 1 << 20)


@given(MEMORY, NOFILE, st.integers(1, 8))
def test_descriptors_of_all_connections_and_some_for_the_admin_side_fit(
    memory: int | None, nofile: int, workers: int
) -> None:
    bounds = derive(memory, nofile, workers)
    others = RESERVED_FDS + bounds.upstream_idle_total + bounds.socket_stock + bounds.mirrors
    assert 2 * bounds.connections + others <= nofile


@given(MEMORY, NOFILE, st.integers(1, 8))
def test_one_pod_cannot_fill_the_idle_upstream_connections_with_those_to_one_endpoint(
    memory: int | None, nofile: int, workers: int
) -> None:
    bounds = derive(memory, nofile, workers)
    assert 4 <= bounds.upstream_idle_per_endpoint <= bounds.upstream_idle_total / 2


@given(st.integers(64 * MIB, 64 * 1024 * MIB), NOFILE, st.integers(1, 8))
def test_all_workers_together_stay_within_the_memory_limit(memory: int, nofile: int, workers: int) -> None:
    bounds = derive(memory, nofile, workers)
    own, kernel = bounds.connections * IDLE_CONNECTION_BYTES, bounds.requests * REQUEST_BYTES
    assert workers * (own + bounds.buffered + kernel) <= memory


@given(MEMORY, NOFILE, st.integers(1, 8))
def test_no_pod_can_take_every_connection_or_copy_of_a_worker(memory: int | None, nofile: int, workers: int) -> None:
    bounds = derive(memory, nofile, workers)
    assert 8 <= bounds.connections_per_pod < bounds.connections
    assert 8 <= bounds.mirrors_per_pod < bounds.mirrors


def test_bounds_survive_the_way_to_a_worker() -> None:
    bounds = derive(256 * MIB, 20_000, 2)
    assert Bounds.from_json(bounds.as_json()) == bounds


def test_the_usual_node_serves_five_thousand_connections_of_one_pod() -> None:
    assert derive(None, 20_000, 1).connections_per_pod >= 5_000


@given(MEMORY, NOFILE, st.integers(1, 8))
def test_one_pod_leaves_room_for_others_and_one_server_leaves_its_clients_room(
    memory: int | None, nofile: int, workers: int
) -> None:
    bounds = derive(memory, nofile, workers)
    client, server = client_caps(bounds, None), server_caps(bounds, None)
    assert 0 < server.requests < client.requests < bounds.requests <= bounds.connections
    assert 0 < client.buffered < bounds.buffered
    assert 16 * KIB <= bounds.unsent <= bounds.receive_buffer <= MIB


LIMIT = st.one_of(st.none(), st.integers(1, 1 << 40))


@given(NOFILE, st.integers(1, 8), LIMIT, LIMIT, LIMIT)
def test_caps_that_a_namespace_asks_for_hold_for_the_node_and_within_what_a_worker_has(
    nofile: int, workers: int, connections: int | None, requests: int | None, buffered: int | None
) -> None:
    bounds = derive(None, nofile, workers)
    usual, caps = (
        client_caps(bounds, None),
        client_caps(bounds, PodLimits("shop/caps", connections, requests, buffered)),
    )
    rows = (
        (connections, caps.connections, usual.connections, bounds.connections),
        (requests, caps.requests, usual.requests, bounds.requests),
        (buffered, caps.buffered, usual.buffered, bounds.buffered),
    )
    for asked, got, default, most in rows:
        if asked is None:
            assert got == default
        else:
            assert 1 <= got <= most
            assert got == most or asked <= got * workers < asked + workers
