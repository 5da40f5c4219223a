"""What the admin server asks of the agent; the server knows nothing else of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

Json = dict[str, Any]


class NotFoundError(LookupError):
    """The named thing does not exist; the text says what was looked for and what exists."""


class BadQueryError(ValueError):
    """A parameter is missing or malformed; the text says which and what is accepted."""


class Health(Protocol):
    def live(self) -> str:
        """ "" = the agent's loop works; else why not."""

    def ready(self) -> str:
        """ "" = a configuration is in force and the hooks are attached; else what is missing."""


class AdminApi(Health, Protocol):
    def status(self) -> Json: ...
    def objects(self, kind: str, namespace: str, name: str) -> list[Json]: ...
    def snapshot(self) -> Json: ...
    async def connections(self, namespace: str, name: str) -> list[Json]: ...
    def explain(self, query: Mapping[str, Any]) -> Json: ...
    def observe(self, query: Mapping[str, str]) -> AbstractAsyncContextManager[AsyncIterator[Json]]:
        """Entered once the stream misses nothing any more: a request sent from then on is in it."""

    async def handover(self) -> Json:
        """Give up the lease for a newer agent, drain and end; the hooks stay attached."""


class MetricsSource(Protocol):
    def format_of(self, accept: str) -> str:
        """Accept headers of one format, of which there are a few, get the same text."""

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type; called in one thread, so it reads maps and plain values only."""
