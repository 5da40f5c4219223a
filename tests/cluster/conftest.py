"""The cluster of a test run, and the agent's images on it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster import agent_image
from tests.cluster.cluster import Cluster, for_tests

NODES = 2


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two nodes, Ready, with DNS."""
    with for_tests(NODES) as made:
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own; what the test puts there goes with it."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("-n", name, "wait", "--for=create", "serviceaccount/default", "--timeout=20s")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")  # the controller takes five seconds to look again


@pytest.fixture(scope="session")
def agent_images_loaded(cluster: Cluster) -> list[str]:
    """The names of the agent's images, built from this tree and known on every node."""
    for archive in agent_image.archives():
        cluster.load(archive)
    return list(agent_image.NAMES.values())
