"""The CLI's way to a running agent: JSON over its unix socket."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from nodeagent.admin.api import BadQueryError, Json, NotFoundError

# The agent answers everything but connections (which asks workers and a netlink child) in milliseconds.
ANSWER_SECONDS = 10.0
MAX_LINE = 1024 * 1024


class UnreachableError(ConnectionError):
    """No agent answers on the socket; the text says where it was looked for and how to start one."""


class AgentFailedError(RuntimeError):
    """The agent answered, but could not do what was asked; the text says what it said."""


class AdminClient:
    """One call, one session: the CLI asks once or twice and ends."""

    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        return asyncio.run(self._once("GET", path, query or {}, None))

    def post(self, path: str, body: Json | None = None) -> Json:
        return asyncio.run(self._once("POST", path, {}, body))

    async def post_async(self, path: str, body: Json | None = None) -> Json:
        """For callers that already run a loop (a takeover)."""
        return await self._once("POST", path, {}, body)

    def _session(self, seconds: float | None) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            "http://nodeagent",
            connector=aiohttp.UnixConnector(path=str(self._path)),
            timeout=aiohttp.ClientTimeout(total=seconds),
            read_bufsize=MAX_LINE,
        )

    async def _once(self, method: str, path: str, query: Mapping[str, str], body: Json | None) -> Json:
        try:
            async with (
                self._session(ANSWER_SECONDS) as session,
                session.request(method, path, params=query, json=body) as response,
            ):
                return _unwrap(response.status, await response.read())
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Json]:
        """Yield the records of an NDJSON answer until it ends; UnreachableError if the agent dies meanwhile."""
        try:
            async with self._session(None) as session, session.get(path, params=query) as response:
                if response.status != 200:
                    _unwrap(response.status, await response.read())
                async for line in response.content:
                    yield json.loads(line)
        except aiohttp.ClientConnectionError as error:
            raise self._unreachable(error) from error
        except aiohttp.ClientPayloadError as error:
            raise UnreachableError(
                f"the agent on {self._path} ended in the middle of its answer; `nodeagent status` says more"
            ) from error

    def _unreachable(self, error: BaseException) -> UnreachableError:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM):
            return UnreachableError(f"{self._path} belongs to root and you are not: run this as root (sudo)")
        why = "it did not answer in time" if isinstance(error, TimeoutError) else "nothing listens there"
        return UnreachableError(
            f"no agent on {self._path}: {why}. Start one with `nodeagent run --manifests DIR`, "
            f"or name its directory with --run-dir"
        )


def _unwrap(status: int, body: bytes) -> Json:
    try:
        answer: Any = json.loads(body)
    except ValueError:  # the HTTP library's own text about an exception in the agent
        answer = {"error": {"message": body.decode(errors="replace").strip()}}
    if status == 200:
        return dict(answer)
    message = answer.get("error", {}).get("message", "")
    if status == 404:
        raise NotFoundError(message)
    if status == 400:
        raise BadQueryError(message)
    raise AgentFailedError(f"the agent answered {status} ({message}); its log says more")
