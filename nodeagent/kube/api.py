"""What is asked of an API server, and how it can fail to answer."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

MAX_RETRY_AFTER = 30.0  # seconds that we let the API server ask us to wait


class Reason(enum.Enum):
    GONE = "gone"  # the version asked for is no longer known: list again
    MISSING = "missing"  # no such kind
    FORBIDDEN = "forbidden"
    UNAVAILABLE = "unavailable"  # not reached, or not able to answer now
    UNINTELLIGIBLE = "unintelligible"  # it answers, but not with what was asked for


@dataclass(frozen=True, slots=True)
class Failure:
    reason: Reason
    message: str
    retry_after: float = 0.0


class ApiError(Exception):
    """`status` is HTTP's; 0 = no answer, and the text says why."""

    def __init__(self, status: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.failure = failure_of(status, message, retry_after)


class Api(Protocol):
    """One API server.  Both raise ApiError, the stream also in the middle."""

    @property
    def server(self) -> str:
        """Its address, for people."""

    async def get(self, path: str, query: Mapping[str, str]) -> bytes:
        """The whole answer."""

    def stream(
        self, path: str, query: Mapping[str, str], seconds: float
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """An answer of lines, which the server ends after `seconds`; entered once it has answered."""

    async def close(self) -> None: ...


class WritableApi(Api, Protocol):
    """One that is told something, too."""

    async def send(self, method: str, path: str, body: Mapping[str, Any], seconds: float) -> bytes:
        """POST, PUT, or PATCH (a merge patch); the whole answer, which has to come within `seconds`."""


def failure_of(status: int, message: str, retry_after: float = 0.0) -> Failure:
    """What an HTTP status, or the code of an ERROR event, means for list and watch."""
    if status == 410:
        return Failure(Reason.GONE, message)
    if status == 404:
        return Failure(Reason.MISSING, message)
    if status in (401, 403):
        return Failure(Reason.FORBIDDEN, message)
    if status in (0, 408, 429) or status >= 500:
        return Failure(Reason.UNAVAILABLE, message, min(retry_after, MAX_RETRY_AFTER))
    return Failure(Reason.UNINTELLIGIBLE, f"HTTP status {status}: {message}")
