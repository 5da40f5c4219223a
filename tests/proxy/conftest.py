"""One data path and one Go re-parser for all table-driven tests: they are asked thousands of things."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers import Reparser
from tests.proxy.corpus.loopback import Mesh


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    mesh = Mesh()
    yield mesh
    mesh.close()
    assert not mesh.errors, mesh.errors


@pytest.fixture(scope="session")
def go() -> Iterator[Reparser]:
    with Reparser() as reparser:
        yield reparser
