"""aiohttp lives here: routes, status codes and the two listening sockets.  No decision is made here."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from nodeagent.admin import API_VERSION
from nodeagent.admin.api import AdminApi, BadQueryError, Health, Json, MetricsSource, NotFoundError
from nodeagent.admin.scrapes import Scrapes

# An explain request is the only body we read: a method, a path and headers as long as the data path takes them.
MAX_BODY = 256 * 1024
SHUTDOWN_SECONDS = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"version": API_VERSION, "error": {"code": code, "message": message}}, status=status)


@web.middleware
async def _errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except NotFoundError as error:
        return _error(404, "not-found", str(error))
    except BadQueryError as error:
        return _error(400, "bad-query", str(error))
    except web.HTTPException as error:
        return _error(error.status, "http", f"{request.method} {request.path}: {error.reason}")


class HealthRoutes:
    """What probes ask for."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/livez", self._livez),
            web.get("/readyz", self._readyz),
            web.get("/healthz", self._readyz),
        ]

    async def _livez(self, _request: web.Request) -> web.Response:
        return _health(self._health.live())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _health(self._health.live() or self._health.ready())


class StandbyServer:
    """Answers probes on TCP, for an agent that stands by.  /metrics is empty: the one that works has the counters."""

    def __init__(self, health: Health) -> None:
        self._health = HealthRoutes(health)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        app = web.Application()
        app.add_routes([*self._health.routes(), web.get("/metrics", self._nothing)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _nothing(self, _request: web.Request) -> web.Response:
        return web.Response()


class AdminServer:
    """Serves `api` on a unix socket and `metrics` on TCP; `start` returns once both accept."""

    def __init__(self, api: AdminApi, metrics: MetricsSource) -> None:
        self._api = api
        self._health = HealthRoutes(api)
        self._scrapes = Scrapes(metrics)
        self._runners: list[web.AppRunner] = []
        self._socket: tuple[Path, int] | None = None  # path and inode
        self.metrics_port = 0

    async def start(self, socket_path: Path, host: str, port: int, patience: float = 0.0) -> None:
        """Raises OSError if `host`:`port` is still taken after `patience` seconds (a predecessor may be closing)."""
        end = asyncio.get_running_loop().time() + patience
        while True:
            try:
                await self.start_metrics(host, port)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or asyncio.get_running_loop().time() > end:
                    raise
            await asyncio.sleep(0.05)
        await self.start_admin(socket_path)

    async def start_admin(self, path: Path) -> None:
        runner = await self._runner(self._admin_app())
        listener = _private_socket(path)
        await web.SockSite(runner, listener).start()
        self._socket = (path, _inode(path))

    async def start_metrics(self, host: str, port: int) -> None:
        runner = await self._runner(self._metrics_app())
        await web.TCPSite(runner, host, port, reuse_address=True).start()
        self.metrics_port = runner.addresses[0][1]

    async def _runner(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def stop(self) -> None:
        """Close both; the socket file goes too, unless a successor has already replaced it."""
        for runner in self._runners:
            await runner.cleanup()
        await self._scrapes.close()
        if self._socket is not None:
            path, inode = self._socket
            _remove_own(path, inode)

    def _admin_app(self) -> web.Application:
        app = web.Application(middlewares=[_errors_as_json], client_max_size=MAX_BODY)
        app.add_routes(
            [
                *self._health.routes(),
                web.get("/metrics", self._render_metrics),
                web.get("/v1/status", self._status),
                web.get("/v1/objects/{kind}", self._objects),
                web.get("/v1/snapshot", self._snapshot),
                web.get("/v1/connections", self._connections),
                web.get("/v1/observe", self._observe),
                web.post("/v1/explain", self._explain),
                web.post("/v1/handover", self._handover),
            ]
        )
        return app

    def _metrics_app(self) -> web.Application:
        app = web.Application(middlewares=[_errors_as_json])
        app.add_routes([web.get("/metrics", self._render_metrics), *self._health.routes()])
        return app

    async def _render_metrics(self, request: web.Request) -> web.Response:
        accept = request.headers.get("Accept", "")
        body, content_type = await self._scrapes.text(accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _request: web.Request) -> web.Response:
        return _answer(self._api.status())

    async def _objects(self, request: web.Request) -> web.Response:
        query = request.query
        kind = request.match_info["kind"]
        items = self._api.objects(kind, query.get("namespace", ""), query.get("name", ""))
        return _answer({"kind": kind, "items": items})

    async def _snapshot(self, _request: web.Request) -> web.Response:
        return _answer(self._api.snapshot())

    async def _connections(self, request: web.Request) -> web.Response:
        query = request.query
        items = await self._api.connections(query.get("namespace", ""), query.get("name", ""))
        return _answer({"kind": "connections", "items": items})

    async def _explain(self, request: web.Request) -> web.Response:
        try:
            query: Any = await request.json()
        except json.JSONDecodeError as error:
            raise BadQueryError(f"the body is not JSON: {error}") from error
        if not isinstance(query, dict):
            raise BadQueryError("the body must be a JSON object")
        return _answer(self._api.explain(query))

    async def _handover(self, _request: web.Request) -> web.Response:
        return _answer(await self._api.handover())

    async def _observe(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        async with self._api.observe(dict(request.query)) as records:
            try:
                await response.prepare(request)
                async for record in records:
                    await response.write(_line(record))
            except ConnectionResetError:
                pass  # the watcher left: how every `observe -f` ends
        return response


def _line(record: Json) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _private_socket(path: Path) -> socket.socket:
    """A listener in the file system, 0600 from the first moment: a chmod afterwards would leave a gap."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen()
    return listener


def _inode(path: Path) -> int:
    return path.stat().st_ino


def _remove_own(path: Path, inode: int) -> None:
    if path.exists() and path.stat().st_ino == inode:
        path.unlink()


def _answer(body: Json) -> web.Response:
    return web.json_response({"version": API_VERSION, **body})


def _health(problem: str) -> web.Response:
    return web.Response(status=503 if problem else 200, text=(problem or "ok") + "\n")
