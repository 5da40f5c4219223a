"""One `observe` stream: history, then records as they come, and a notice whenever it would be silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager

from nodeagent.admin.api import BadQueryError
from nodeagent.agent import record_filter
from nodeagent.agent.observers import Observers, Record, Watcher

SILENCE_SECONDS = 5.0


@asynccontextmanager
async def stream(
    observers: Observers,
    query: Mapping[str, str],
    why_silent: Callable[[str], str],
    unconfirmed: Callable[[], Awaitable[list[int]]],
) -> AsyncIterator[AsyncIterator[Record]]:
    """Matching records; `{"notice": text}` at the start and when nothing matched for five seconds.

    Entered once every worker has confirmed that it sends its records: `unconfirmed` waits for that, and returns the
    numbers of those that did not in time.  `why_silent(source filter)` names a likely reason, for example a pod that
    is not enrolled.  BadQueryError before anything is begun.
    """
    matches, last = record_filter.parse(query), _last(query)
    if query.get("follow") != "1":
        yield _kept([record for record in observers.history if matches(record)][-last:], query)
        return
    watcher = Watcher(matches)
    observers.add(watcher)
    try:
        begun = _begun(query, await unconfirmed())
        async with aclosing(_live(watcher, query, why_silent, begun)) as records:
            yield records
    finally:
        observers.remove(watcher)


def _begun(query: Mapping[str, str], silent_workers: list[int]) -> str:
    """Tells a person, and a program, that what is sent from now on is shown."""
    text = f"watching (filters: {record_filter.describe(query)})"
    if not silent_workers:
        return text
    numbers = ", ".join(map(str, silent_workers))
    return f"{text}; worker {numbers} has not confirmed it: requests that pass there may be missing"


async def _kept(found: list[Record], query: Mapping[str, str]) -> AsyncIterator[Record]:
    for record in found:
        yield record
    if not found:
        yield {"notice": _nothing_kept(query)}


def _last(query: Mapping[str, str]) -> int:
    text = query.get("last", "20")
    if not text.isdigit():
        raise BadQueryError(f"last {text!r} is not a number")
    return int(text)


def _nothing_kept(query: Mapping[str, str]) -> str:
    return (
        f"no kept record matches (filters: {record_filter.describe(query)}). Requests are recorded only while "
        "somebody watches: run `nodeagent observe -f`, then send the request. A connection that is refused at "
        "connect() is none: `nodeagent explain` says why it is"
    )


async def _live(
    watcher: Watcher, query: Mapping[str, str], why_silent: Callable[[str], str], begun: str
) -> AsyncGenerator[Record, None]:
    yield {"notice": begun}
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
