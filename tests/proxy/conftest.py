"""What several tests need.  One data path and one Go re-parser serve all table-driven ones: they are asked a lot."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from nodeagent.core.model import Endpoint
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


@pytest.fixture
def silent() -> Iterator[Endpoint]:
    """An endpoint whose connections are never made: its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield Endpoint(*full.getsockname()[:2])
