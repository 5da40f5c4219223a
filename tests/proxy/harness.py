"""The data path on loopback: the real worker classes in this process, no root, no BPF.

    async def conversation() -> None:
        async with Proxy() as p:                        # one HTTP/1 destination without rules
            client = await p.connect()
            await client.send(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            request = await p.upstream.request()        # raw bytes of one head (and CL body) as the upstream got them
            await p.upstream.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
            assert await client.response() == (200, b"ok")
    run(conversation())

* `run(coroutine)` runs one conversation with a time limit; it fails if the loop reports an unhandled error.  Its time,
  as of `loop.time()`, `asyncio.sleep` and `p.engine.now()`, leaves out what other processes had of the processors.
* `Proxy(destination=..., bounds=..., **fields)`: any model.Destination; its endpoints default to the scripted
  upstream; `fields` replace fields of the default destination (e.g. `policies=(...)`, `protocol=Protocol.OPAQUE`).
* `Proxy(ledger=...)`: of two that share one, each is a worker of the same node.
* `p.connect()` -> Client with send, recv (whatever has come), read_until_close (bytes; raises ConnectionResetError
  on a reset), response (status, body), half_close, close, reset, closed.
* `SecondPod(p).port`: of the listener of another pod, for `p.connect`.
* `p.upstream` -> ScriptedUpstream: a listening socket that does nothing by itself.  `accept()` -> next Connection,
  `connection` the latest; both have recv/send/close/reset/half_close; `received` = all bytes it ever got, over all
  connections (`await settle()` first when nothing must arrive); `request()` reads one request.
* `Proxy(answer=b"...")`: the upstream answers each request on its own with these bytes (or `answer(request) -> bytes`).
* `p.rows()` -> counted series; `p.engine` -> the Engine (stats, pool, bounds, apply(snapshot)).
* `exchange_raw(p, data)` -> everything the client got for `data` until the proxy closed or fell silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from nodeagent.core.bounds import Bounds
from nodeagent.core.ledger import Ledger, LocalLedger
from nodeagent.core.model import Destination, Endpoint, Protocol, Snapshot, Workload
from nodeagent.proxy.acceptor import Acceptor
from nodeagent.proxy.accounting import Accounting
from nodeagent.proxy.data_loop import DataLoop
from nodeagent.proxy.engine import Engine
from nodeagent.proxy.sockets import LocalSockets
from nodeagent.proxy.stream import reset_on_close
from nodeagent.regex import compile_regex

COOKIE = 7
SERVICE = ("198.18.0.10", 80)
CALLER = Workload("shop", "web-1", "web", "web", ("198.18.1.1",), enrolled=True)
Answer = bytes | Callable[[bytes], bytes]


class OwnTimeLoop(DataLoop):
    """A loop whose clock stands still while this thread is ready to run and others have the processors.

    All of a conversation is on this thread: client, proxy and endpoint.  On a machine that is busy otherwise they get
    slower together, and a timeout is as far from what it guards as it is elsewhere.
    """

    def __init__(self) -> None:
        self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self._latest = 0.0
        super().__init__()

    def time(self) -> float:
        """Seconds.  In this order: whoever takes the processor in between makes it early, which the next call mends."""
        now = time.monotonic()
        waited = int(os.pread(self._schedstat, 100, 0).split()[1])  # ns: `run_delay` of the thread
        self._latest = max(self._latest, now - waited / 1e9)
        return self._latest

    def close(self) -> None:
        super().close()
        os.close(self._schedstat)


def run(conversation: Coroutine[Any, Any, None], seconds: float = 20.0) -> None:
    """Run one conversation; errors the loop would only log fail it."""
    with asyncio.Runner(loop_factory=OwnTimeLoop) as runner:
        runner.run(_checked(conversation, seconds))


async def _checked(conversation: Coroutine[Any, Any, None], seconds: float) -> None:
    errors: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    await asyncio.wait_for(conversation, seconds)
    assert not errors, errors


class FixedOriginals:
    """Every connection was going to one place, or (None) to nowhere known."""

    def __init__(self, original: tuple[str, int] | None) -> None:
        self.original = original

    def take(self, cookie: int, address: str, port: int, listener_port: int, family: int) -> tuple[str, int] | None:
        return self.original


class Connection:
    """A raw TCP connection, either end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self._unread = b""

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def recv(self, count: int = 65536) -> bytes:
        """What has come, at least one byte; b"" at the end.  Raises ConnectionResetError on a reset."""
        if self._unread:
            data, self._unread = self._unread, b""
            return data
        data = await asyncio.get_running_loop().sock_recv(self.sock, count)
        self.received += data
        return data

    async def read_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self.recv()
            assert more, f"closed after {data!r}"
            data += more
        self._unread = data[count:]
        return data[:count]

    async def read_until(self, mark: bytes) -> bytes:
        data = b""
        while mark not in data:
            more = await self.recv()
            assert more, f"closed after {data!r}"
            data += more
        end = data.index(mark) + len(mark)
        self._unread = data[end:]
        return data[:end]

    async def read_until_close(self) -> bytes:
        data = b""
        while more := await self.recv():
            data += more
        return data

    async def message(self) -> bytes:
        """One message as it came: its head, and its body by Content-Length or chunks."""
        head = await self.read_until(b"\r\n\r\n")
        fields = fields_of(head)
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return head + await self._chunks()
        return head + await self.read_exactly(int(fields.get("content-length", "0")))

    async def _chunks(self) -> bytes:
        data = b""
        while True:
            line = await self.read_until(b"\r\n")
            size = int(line.split(b";")[0], 16)
            data += line
            if not size:
                break
            data += await self.read_exactly(size + 2)
        while (line := await self.read_until(b"\r\n")) != b"\r\n":
            data += line
        return data + line

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        reset_on_close(self.sock)
        self.sock.close()


class Client(Connection):
    async def response(self, head_only: bool = False) -> tuple[int, bytes]:
        """(status, body) of one response; its head is kept in `head`."""
        self.head = await self.read_until(b"\r\n\r\n")
        status = int(self.head.split(b" ", 2)[1])
        fields = fields_of(self.head)
        if head_only or status in (204, 304) or 100 <= status < 200:
            return status, b""
        if fields.get("transfer-encoding") == "chunked":
            return status, decode_chunks(await self._chunks())
        if "content-length" in fields:
            return status, await self.read_exactly(int(fields["content-length"]))
        return status, await self.read_until_close()

    @property
    def reason(self) -> str:
        """x-mesh-reason of the last response."""
        return fields_of(self.head).get("x-mesh-reason", "")

    async def closed(self) -> bool:
        """True when the proxy ended the connection without more bytes."""
        try:
            return await self.recv() == b""
        except ConnectionResetError:
            return True


class ScriptedUpstream:
    """A server that does only what the test says, or answers each request with one answer."""

    def __init__(self, answer: Answer | None, host: str = "127.0.0.1") -> None:
        self._listener = socket.create_server((host, 0), backlog=512)
        self._listener.setblocking(False)
        self.endpoint = Endpoint(host, self._listener.getsockname()[1])
        self.connections: list[Connection] = []
        self._accepted: asyncio.Queue[Connection] = asyncio.Queue()
        self._answer = answer
        self._tasks = [asyncio.ensure_future(self._accept())]

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            connection = Connection(sock)
            self.connections.append(connection)
            self._accepted.put_nowait(connection)
            if self._answer is not None:
                self._tasks.append(asyncio.ensure_future(self._serve(connection, self._answer)))

    async def _serve(self, connection: Connection, answer: Answer) -> None:
        with contextlib.suppress(AssertionError, OSError):  # the proxy closes when it likes
            while True:
                request = await connection.message()
                await connection.send(answer(request) if callable(answer) else answer)

    @property
    def received(self) -> bytes:
        return b"".join(connection.received for connection in self.connections)

    @property
    def connection(self) -> Connection:
        return self.connections[-1]

    async def accept(self) -> Connection:
        return await self._accepted.get()

    async def request(self) -> bytes:
        """One request on the latest connection (accepting the first)."""
        if not self.connections:
            await self.accept()
        return await self.connection.message()

    async def send(self, data: bytes) -> None:
        await self.connection.send(data)

    async def drain(self) -> bytes:
        """Everything that has arrived, on every connection, without waiting (for upstreams that do not answer)."""
        await settle()
        for connection in self.connections:
            with contextlib.suppress(BlockingIOError, ConnectionResetError, OSError):
                while data := connection.sock.recv(1 << 20):
                    connection.received += data
        return self.received

    def stop_listening(self) -> None:
        self._tasks[0].cancel()
        self._listener.close()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self.connections:
            connection.close()
        self._listener.close()


async def settle(seconds: float = 0.02) -> None:
    """Let everything on loopback that is under way arrive."""
    await asyncio.sleep(seconds)


class Proxy:
    """See the module's docstring."""

    def __init__(
        self,
        destination: Destination | None = None,
        *,
        answer: Answer | None = None,
        bounds: Bounds | None = None,
        originals: FixedOriginals | None = None,
        ledger: Ledger | None = None,
        **fields: Any,
    ) -> None:
        self._destination = destination
        self._fields = fields
        self._answer = answer
        self.bounds = bounds or Bounds()
        self._originals = originals
        self.ledger = ledger or LocalLedger(time.monotonic_ns)
        self.clients: list[Client] = []
        self.events: list[dict[str, Any]] = []
        self.caller = CALLER  # as the next snapshot has it

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, DataLoop), "conversations run by harness.run"
        self.upstream = ScriptedUpstream(self._answer)
        self.destination = self._destination or Destination(
            "shop/payments:80",
            *SERVICE,
            Protocol.HTTP1,
            is_frontend=True,
            services=("shop/payments",),
            endpoints=(self.upstream.endpoint,),
        )
        self.destination = replace(self.destination, **self._fields)
        self.accounting = Accounting.anonymous()
        self.engine = Engine(
            loop, self.bounds, LocalSockets(), self.accounting, self.ledger, compile_regex, self.events.append
        )
        self.engine.now = loop.time
        self.engine.tick = loop.time()
        self.engine.set_pods({COOKIE: CALLER.key})
        self.apply(self.destination)
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        listener.setblocking(False)
        originals = self._originals or FixedOriginals((self.destination.address, self.destination.port))
        self.acceptor = Acceptor(self.engine, originals, listener, COOKIE, 4)
        self.acceptors = [self.acceptor]
        self.engine.start()
        return self

    def apply(self, *destinations: Destination) -> None:
        """Put a new snapshot in force."""
        found = {(one.address, one.port): one for one in destinations}
        self.engine.apply(Snapshot(self.engine.snapshot.generation + 1, found, {CALLER.key: self.caller}))

    def set_endpoints(self, *endpoints: Endpoint) -> None:
        self.destination = replace(self.destination, endpoints=endpoints)
        self.apply(self.destination)

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        for client in self.clients:
            client.close()
        for acceptor in self.acceptors:
            acceptor.close()
        self.engine.stop()
        await self.upstream.close()
        tenants = self.engine.tenants
        in_flight = tenants.requests + sum(server.requests + server.connections for server in tenants.servers.values())
        assert _error is not None or not in_flight, f"{in_flight} requests counted as in flight after all closed"
        held = self.engine.budget.held
        assert _error is not None or held == 0, f"{held} bytes accounted as held after everything closed"

    async def connect(self, port: int = 0) -> Client:
        """`port`: of a SecondPod's listener."""
        sock = socket.socket()
        sock.setblocking(False)
        client = Client(sock)
        self.clients.append(client)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port or self.acceptor.port))
        return client

    def rows(self) -> list[dict[str, Any]]:
        return self.accounting.rows()


class SecondPod:
    """Another pod of the node with a listener of its own."""

    def __init__(self, proxy: Proxy) -> None:
        proxy.engine.set_pods({COOKIE: CALLER.key, COOKIE + 1: CALLER.key})
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        listener.setblocking(False)
        acceptor = Acceptor(proxy.engine, FixedOriginals(SERVICE), listener, COOKIE + 1, 4)
        proxy.acceptors.append(acceptor)
        self.port = acceptor.port


async def exchange_raw(proxy: Proxy, data: bytes, silence: float = 0.3) -> bytes:
    """What a new client gets for `data` until the proxy closes, resets (marked b"<RST>") or is silent so long."""
    client = await proxy.connect()
    with contextlib.suppress(OSError):
        await client.send(data)
    got = b""
    try:
        while more := await asyncio.wait_for(client.recv(), silence):
            got += more
    except TimeoutError:
        pass
    except ConnectionResetError:
        got += b"<RST>"
    client.close()
    return got


def fields_of(head: bytes) -> dict[str, str]:
    """Lower-case names -> values of a head (the last of repeated ones)."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


def decode_chunks(data: bytes) -> bytes:
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if not size:
            return body
        body, data = body + data[:size], data[size + 2 :]
