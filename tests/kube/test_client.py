"""What the client sends, and what it makes of the answer, over a socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from nodeagent.kube import client as module
from nodeagent.kube.api import ApiError
from nodeagent.kube.client import Client

PATH = "/apis/coordination.k8s.io/v1/namespaces/mesh/leases"


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _client_of(handler: Handler, tmp_path: Path) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = Client(_kubeconfig(tmp_path, runner.addresses[0][1]))
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


async def _exchange(tmp_path: Path, method: str, status: int, answer: Any) -> tuple[list[Any], bytes]:
    """(What arrived, the answer)."""
    arrived: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        arrived.extend([request.method, request.path, request.headers.get("Content-Type"), await request.json()])
        return web.Response(status=status) if answer is None else web.json_response(answer, status=status)

    async with _client_of(handler, tmp_path) as client:
        return arrived, await client.send(method, PATH, {"spec": {"a": 1}}, 5.0)


def _kubeconfig(directory: Path, port: int, host: str = "127.0.0.1") -> Path:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://{host}:{port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
        "current-context": "c",
    }
    file = directory / "kubeconfig"
    file.write_text(json.dumps(config))
    return file


@pytest.mark.parametrize(
    ("server", "excepted"),
    [
        ("https://[fd00::1]:443", "fd00::1"),
        ("https://10.96.0.1", "example.com, 10.96.0.0/12"),
        ("https://[fd00::1]", "fd00::/8"),
        ("https://api.example:6443", ".example"),
    ],
)
def test_a_server_that_is_excepted_by_address_network_or_domain_needs_no_proxy(
    monkeypatch: pytest.MonkeyPatch, server: str, excepted: str
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.0/16, other.example")
    assert module._environments_proxy(server) == "http://proxy.example:3128"
    monkeypatch.setenv("no_proxy", excepted)
    assert module._environments_proxy(server) is None


@pytest.mark.parametrize(("excepted", "expected"), [("", "http://api.example/version"), ("api.example", "")])
def test_the_environments_proxy_is_used_unless_it_excepts_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, excepted: str, expected: str
) -> None:
    asked: list[str] = []

    async def scenario() -> None:
        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1].decode())
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            writer.close()

        server = await asyncio.start_server(proxy, "127.0.0.1", 0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("no_proxy", excepted)
        client = Client(_kubeconfig(tmp_path, 80, "api.example"))
        try:
            await client.get("/version", {})
        except ApiError:
            assert excepted, "there is no such host to be asked without a proxy"
        finally:
            await client.close()
            server.close()

    asyncio.run(scenario())
    assert "".join(asked) == expected


def test_a_request_needs_no_thread(tmp_path: Path) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.json_response({})

    async def scenario() -> list[str]:
        async with _client_of(handler, tmp_path) as client:
            await client.get(PATH, {})  # its first looks up names
            threads = {thread.name for thread in threading.enumerate()}
            await asyncio.gather(*(client.get(PATH, {}) for _ in range(4)))
            return [thread.name for thread in threading.enumerate() if thread.name not in threads]

    assert asyncio.run(scenario()) == []


@pytest.mark.parametrize(
    ("method", "status", "content_type"),
    [
        ("POST", 201, "application/json"),
        ("PUT", 200, "application/json"),
        ("PATCH", 200, "application/merge-patch+json"),
    ],
)
def test_a_body_is_sent_with_the_type_of_its_method(
    tmp_path: Path, method: str, status: int, content_type: str
) -> None:
    arrived, answer = asyncio.run(_exchange(tmp_path, method, status, {"metadata": {"name": "x"}}))
    assert arrived == [method, PATH, content_type, {"spec": {"a": 1}}]
    assert json.loads(answer) == {"metadata": {"name": "x"}}


def test_a_conflict_is_an_error_with_its_status_and_the_servers_words(tmp_path: Path) -> None:
    said = {"kind": "Status", "code": 409, "message": "the object has been modified"}
    with pytest.raises(ApiError, match="the object has been modified") as error:
        asyncio.run(_exchange(tmp_path, "PUT", 409, said))
    assert error.value.status == 409


def test_an_error_without_a_body_has_words_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="503 Service Unavailable: the answer says no more") as error:
        asyncio.run(_exchange(tmp_path, "PATCH", 503, None))
    assert error.value.status == 503


async def _list(client: Client) -> None:
    await client.get(PATH, {"limit": "1"})


async def _watch(client: Client) -> None:
    async with client.stream(PATH, {"watch": "true"}, 300.0):
        pass


def test_a_watch_goes_on_however_often_others_are_refused(tmp_path: Path) -> None:
    """As when the agent's account is deleted before its DaemonSet, whose watch tells of it."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.Response(status=401) if begun.is_set() else web.json_response({})
        answer = web.StreamResponse()
        await answer.prepare(request)
        begun.set()
        await gone.wait()
        await answer.write(b"deleted\n")
        return answer

    async def scenario() -> list[bytes]:
        async with _client_of(handler, tmp_path) as client:
            await client.get(PATH, {})
            async with client.stream(PATH, {"watch": "true"}, 300.0) as lines:
                for _ in range(5):
                    with pytest.raises(ApiError, match="401"):
                        await client.get(PATH, {})
                gone.set()
                return [line async for line in lines]

    assert asyncio.run(scenario()) == [b"deleted"]


@pytest.mark.parametrize("asking", [_list, _watch])
def test_a_server_that_takes_the_question_and_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asking: Callable[[Client], Awaitable[None]]
) -> None:
    """A watch that has begun may be silent for minutes; the answer that it begins may not."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)

    async def silent(_request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def story() -> None:
        async with _client_of(silent, tmp_path) as client:
            with pytest.raises(ApiError, match=r"no answer in time from http://127\.0\.0\.1"):
                await asyncio.wait_for(asking(client), 10)

    asyncio.run(story())
