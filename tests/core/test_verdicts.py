"""Verdicts that are shared are the verdicts that each destination would get by itself."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.core.authorization import network_verdict
from nodeagent.core.model import Destination, Protocol, Workload
from nodeagent.core.verdicts import Verdicts
from tests.core import strategies as some


@st.composite
def neighbours(draw: st.DrawFn) -> list[Destination]:
    """Destinations with the very same policies that differ in all else: what a careless key would mix up."""
    one = draw(some.destinations)
    changed = st.builds(
        dataclasses.replace,
        st.just(one),
        address=st.sampled_from(some.ADDRESSES),
        protocol=st.sampled_from((Protocol.HTTP1, Protocol.OPAQUE)),
        ports=some.port_numbers,
        refuse=some.refusals,
        policies=st.sampled_from((one.policies, one.policies[:1], one.policies[::-1])),
    )
    return [one, *draw(st.lists(changed, min_size=1, max_size=4))]


@settings(max_examples=200, deadline=None)
@given(neighbours(), st.lists(some.workloads, min_size=1, max_size=4))
def test_a_shared_verdict_is_the_one_of_each_destination_and_pod(
    destinations: list[Destination], pods: list[Workload]
) -> None:
    verdicts = Verdicts()
    for destination in destinations:
        for pod in pods:
            assert verdicts.at(destination).of(pod) == network_verdict(destination, pod)


@given(some.destinations)
def test_frontend_and_endpoint_with_the_same_policies_share_one_verdict(destination: Destination) -> None:
    verdicts = Verdicts()
    endpoint = dataclasses.replace(destination, name="198.18.0.9:8080", is_frontend=not destination.is_frontend)
    assert verdicts.at(endpoint) is verdicts.at(destination)
