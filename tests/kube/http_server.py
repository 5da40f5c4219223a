"""The model over HTTP, as an API server on loopback: list, watch, bookmarks, 410, refusals, drops, slowness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from aiohttp import web

from tests.kube.model import Server, StatusError, Value, bookmark


class HttpServer:
    """`refuse`: path -> HTTP status of every answer, for now.  `tokens`: which are valid; empty = anybody may ask."""

    def __init__(self, model: Server) -> None:
        self.model = model
        self.refuse: Callable[[str], int] = lambda _path: 0
        self.tokens: set[str] = set()
        self.slow = 0.0  # seconds before each answer
        self.asked: list[str] = []
        self.silent = False  # watches say nothing, not even a bookmark
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._watches: set[asyncio.Task[None]] = set()
        self.port = 0

    def put(self, path: str, value: Value) -> None:
        self.model.put(path, value)
        self._wake()

    def delete(self, path: str, namespace: str, name: str) -> None:
        self.model.delete(path, namespace, name)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """As if it were killed; `start` has the same port again."""
        self.drop_watches()
        runner, self._runner = self._runner, None
        if runner is not None:
            server = runner.server
            await runner.cleanup()
            await asyncio.sleep(0.01)  # what was accepted while it closed is made known to it now, and closed by nobody
            if server is not None:
                await server.shutdown(0)

    def drop_watches(self) -> None:
        for task in self._watches:
            task.cancel()

    def kubeconfig(self, directory: Path, token: str = "") -> Path:
        user = {"token": token} if token else {}
        path = directory / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        watch = request.query.get("watch") == "true"
        self.asked.append(("watch " if watch else "list ") + request.path)
        await asyncio.sleep(self.slow)
        try:
            self._check(request)
            if watch:
                return await self._watch(request)
            body = self.model.page(request.path, int(request.query["limit"]), request.query.get("continue", ""))
        except StatusError as error:
            return web.Response(status=error.code, body=error.body, content_type="application/json")
        return web.Response(body=body, content_type="application/json")

    def _check(self, request: web.Request) -> None:
        token = request.headers.get("Authorization", "").lower().removeprefix("bearer ")
        if self.tokens and token not in self.tokens:
            raise StatusError(401, "Unauthorized")
        status = self.refuse(request.path)
        if status:
            raise StatusError(status, f"refused with {status}")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        list(self.model.events(request.path, version))  # 410 comes as a status here
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        task = asyncio.ensure_future(self._send(request, response, version))
        self._watches.add(task)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            self._watches.discard(task)
        if task.cancelled() and request.transport is not None:
            request.transport.abort()
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse, version: int) -> None:
        end = asyncio.get_running_loop().time() + float(request.query["timeoutSeconds"])
        while (left := end - asyncio.get_running_loop().time()) > 0:
            changed = self._changed
            if not self.silent:
                for at, line in self.model.events(request.path, version):
                    half = len(line) // 2  # a line comes in two parts
                    await response.write(line[:half])
                    await asyncio.sleep(0)
                    await response.write(line[half:] + b"\n")
                    version = at
                await response.write(bookmark(self.model.version) + b"\n")
            with_limit = asyncio.wait_for(changed.wait(), min(left, 0.2))
            try:
                await with_limit
            except TimeoutError:
                continue


@asynccontextmanager
async def serving(model: Server) -> AsyncIterator[HttpServer]:
    server = HttpServer(model)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
