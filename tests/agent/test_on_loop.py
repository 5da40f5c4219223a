from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from nodeagent.agent.agent import sources
from nodeagent.agent.on_loop import on_loop
from nodeagent.agent.readings import Facts
from nodeagent.kernel.layout import Layout


def test_the_function_runs_on_the_loops_thread_and_its_result_comes_back() -> None:
    async def scenario() -> tuple[int, int]:
        call = on_loop(asyncio.get_running_loop(), threading.get_ident)
        return await asyncio.to_thread(call), threading.get_ident()

    ran, loops = asyncio.run(scenario())
    assert ran == loops


def test_an_error_of_the_function_reaches_the_thread_that_asked() -> None:
    def fail() -> None:
        raise ValueError("no such thing")

    async def scenario() -> None:
        await asyncio.to_thread(on_loop(asyncio.get_running_loop(), fail))

    with pytest.raises(ValueError, match="no such thing"):
        asyncio.run(scenario())


def test_a_scrape_gathers_what_the_agent_knows_of_itself_on_the_loop() -> None:
    """`facts` reads maps that the supervisor uses too, and a Map object serves one thread only."""
    threads: list[int] = []

    def facts() -> Facts:
        threads.append(threading.get_ident())
        return Facts("1", 1, 1, 0, 0, 0, True, False, 0, 0, 0, 0, 0, {})

    async def scenario() -> int:
        parts: Any = SimpleNamespace(
            instance=SimpleNamespace(layout=Layout()), fleet=SimpleNamespace(supervisor=SimpleNamespace(workers=[]))
        )
        view: Any = SimpleNamespace(facts=facts)
        found = sources(parts, view, asyncio.get_running_loop())
        assert list(await asyncio.to_thread(found.readings))
        return threading.get_ident()

    assert [asyncio.run(scenario())] == threads
