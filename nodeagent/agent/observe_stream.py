"""One `observe` stream: history, then records as they come, and a notice whenever it would be silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from nodeagent.admin.api import BadQueryError
from nodeagent.agent import record_filter
from nodeagent.agent.observers import Observers, Record, Watcher

SILENCE_SECONDS = 5.0


def stream(observers: Observers, query: Mapping[str, str], why_silent: Callable[[str], str]) -> AsyncIterator[Record]:
    """Matching records; `{"notice": text}` when nothing matched for five seconds.  BadQueryError at once, not later.

    `why_silent(source filter)` names a likely reason, for example a pod that is not enrolled.
    """
    matches, last = record_filter.parse(query), _last(query)
    if query.get("follow") == "1":
        return _followed(observers, Watcher(matches), query, why_silent)
    return _kept([record for record in observers.history if matches(record)][-last:], query)


async def _kept(found: list[Record], query: Mapping[str, str]) -> AsyncIterator[Record]:
    for record in found:
        yield record
    if not found:
        yield {"notice": _nothing_kept(query)}


async def _followed(
    observers: Observers, watcher: Watcher, query: Mapping[str, str], why_silent: Callable[[str], str]
) -> AsyncIterator[Record]:
    observers.add(watcher)
    try:
        async for record in _live(watcher, query, why_silent):
            yield record
    finally:
        observers.remove(watcher)


def _last(query: Mapping[str, str]) -> int:
    text = query.get("last", "20")
    if not text.isdigit():
        raise BadQueryError(f"last {text!r} is not a number")
    return int(text)


def _nothing_kept(query: Mapping[str, str]) -> str:
    return (
        f"no kept record matches (filters: {record_filter.describe(query)}). Requests are recorded only while "
        "somebody watches: run `nodeagent observe -f`, then send the request"
    )


async def _live(watcher: Watcher, query: Mapping[str, str], why_silent: Callable[[str], str]) -> AsyncIterator[Record]:
    told = 0
    while True:
        try:
            yield await asyncio.wait_for(watcher.queue.get(), SILENCE_SECONDS)
        except TimeoutError:
            text = f"0 matching requests in {SILENCE_SECONDS:.0f} s ({watcher.seen} seen; filters: "
            yield {"notice": f"{text}{record_filter.describe(query)}). {why_silent(query.get('source', ''))}".rstrip()}
        if watcher.lost > told:
            yield {"notice": f"{watcher.lost - told} records were lost: this stream is read too slowly"}
            told = watcher.lost
