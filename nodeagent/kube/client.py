"""The API server over HTTP.

Of the `kubernetes` package's asyncio client we use the configuration (in the cluster, or of a KUBECONFIG file, with its
tokens, certificates and plugins) and the connection; never its models, which cost 60 times the time of what is read
here.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from nodeagent import __version__
from nodeagent.kube.api import ApiError
from nodeagent.kube.library import (
    ApiClient,
    ConfigException,
    Configuration,
    RESTClientObject,
    load_incluster_config,
    load_kube_config,
)
from nodeagent.kube.records import status_message

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 60.0
SILENCE_SECONDS = 30.0  # beyond the end that was asked for: then the server does not answer any more
MAX_CONNECTIONS = 32  # up to 16 watches, and what is asked and told besides
MAX_LINE = 16 * 1024 * 1024  # bytes; etcd keeps no object beyond 1.5 MB
# A peer that is gone without a word is noticed within 25 s.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
_USER_TIMEOUT_MS = 25_000
CONTENT_TYPES = {
    "POST": "application/json",
    "PUT": "application/json",
    "PATCH": "application/merge-patch+json",
}
_LOST = (aiohttp.ClientError, TimeoutError, OSError)


class NoConfigError(ValueError):
    """There is no usable way to an API server; the text says what was tried."""


class Client:
    """Implements api.WritableApi.

    The configuration is read when it is first needed, and again after a 401: the token may have been renewed.
    """

    def __init__(self, kubeconfig: Path | None) -> None:
        """`kubeconfig` None: the service account of the pod that we run in, else $KUBECONFIG."""
        self._kubeconfig = kubeconfig
        self._client: ApiClient | None = None
        self._proven: ApiClient | None = None  # the API server has answered it
        self._former: ApiClient | None = None  # the last proven one before, whose watches may go on
        self._refused: ApiClient | None = None  # the last one that never was; its answers may still be read
        self.server = "not known yet"

    async def get(self, path: str, query: Mapping[str, str]) -> bytes:
        limits = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
        return await self._whole("GET", path, query, limits, None)

    async def send(self, method: str, path: str, body: Mapping[str, Any], seconds: float) -> bytes:
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, CONNECT_SECONDS))
        return await self._whole(method, path, {}, limits, body)

    async def _whole(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None,
    ) -> bytes:
        try:
            response = await self._request(method, path, query, limits, body)
            async with response:
                answer = await response.read()
                await self._check(response, answer)
                return answer
        except _LOST as error:
            raise ApiError(0, _why(error, self.server)) from error

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str], seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=seconds + SILENCE_SECONDS)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):  # sock_read is for the lines after it
                response = await self._request("GET", path, query, limits)
            async with response:
                if response.status != 200:
                    await self._check(response, await response.read())
                yield _lines(response.content)
        except _LOST as error:
            raise ApiError(0, _why(error, self.server)) from error

    async def close(self) -> None:
        clients = self._client, self._former, self._refused
        self._client = self._former = self._refused = None
        for client in clients:
            await _close(client)

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None = None,
    ) -> aiohttp.ClientResponse:
        client = self._client or await self._connect()
        headers: dict[str, str] = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if body is not None:
            headers["Content-Type"] = CONTENT_TYPES[method]
        await client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        url = f"{client.configuration.host}{path}?{urlencode(query)}" if query else client.configuration.host + path
        answer = await client.call_api(method, url, headers, body, _request_timeout=limits)
        response: aiohttp.ClientResponse = answer.response
        if response.status != 401:
            self._proven = client
        elif await self._is_outdated(client):
            response.close()
            return await self._request(method, path, query, limits, body)
        return response

    async def _is_outdated(self, client: ApiClient) -> bool:
        """After a 401: True = what was valid once is not any more, so ask again with what is read now.

        Watches that the old client began go on; it is closed when the next one that was proven is replaced.  What is
        refused again and again (our account is gone) ends no watch: one of them tells that our DaemonSet is, too.
        """
        replaced, proven = client is not self._client, client is self._proven
        if not replaced:
            self._client, self._proven = None, None
            if proven:
                before, self._former = self._former, client
            else:
                before, self._refused = self._refused, client
            await _close(before)
        return replaced or proven

    async def _check(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        if response.status in (200, 201):
            return
        after = response.headers.get("Retry-After", "")
        said = status_message(body) or f"{response.status} {response.reason}: the answer says no more"
        raise ApiError(response.status, said, float(after) if after.isdigit() else 0.0)

    async def _connect(self) -> ApiClient:
        try:
            configuration = await _configuration(self._kubeconfig)
        except NoConfigError as error:
            raise ApiError(0, str(error)) from error
        if self._client is None:  # another request may have been faster
            self._client = ApiClient(configuration)
            self._client.rest_client = _Rest(configuration)
            self._client.user_agent = f"nodeagent/{__version__}"
            self.server = configuration.host
        return self._client


async def _close(client: ApiClient | None) -> None:
    if client is not None:
        await client.close()  # type: ignore[no-untyped-call]  # the package is typed in part


async def _configuration(kubeconfig: Path | None) -> Any:
    configuration = Configuration(retries=0)
    named = kubeconfig or os.environ.get("KUBECONFIG")
    try:
        if named:
            options = {"client_configuration": configuration, "persist_config": False}
            await load_kube_config(str(named), **options)  # type: ignore[no-untyped-call]  # as in _close
        else:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]  # as in _close
    except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        tried = f"the file {named}" if named else "the service account of a pod, and $KUBECONFIG is not set"
        raise NoConfigError(f"no way to an API server from {tried}: {error}") from error
    configuration.proxy = configuration.proxy or _environments_proxy(configuration.host)
    # aiohttp would look for a proxy and in .netrc at every request, in a thread, which costs as much as the request
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


def _environments_proxy(server: str) -> str | None:
    """Of HTTPS_PROXY (or HTTP_PROXY) and NO_PROXY, which may name networks, as client-go has it."""
    url, proxies = urlsplit(server), getproxies()
    host = url.hostname or ""
    if proxy_bypass(host) or proxy_bypass(url.netloc) or _is_in_networks(host, proxies.get("no", "")):
        return None
    return proxies.get(url.scheme)


def _is_in_networks(host: str, listed: str) -> bool:
    """A host that has a name is in none."""
    with suppress(ValueError):
        address = ip_address(host)
        return any(address in network for network in _networks(listed))
    return False


def _networks(listed: str) -> Iterator[IPv4Network | IPv6Network]:
    for entry in listed.split(","):
        with suppress(ValueError):  # a name
            yield ip_network(entry.strip(), strict=False)


class _Rest(RESTClientObject):
    """Its connector, with connections that notice a peer which is gone without a word."""

    def _create_connector(self) -> aiohttp.TCPConnector:
        return aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=self.ssl_context, socket_factory=_socket)


def _socket(info: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT_MS)
    return made


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines.  What a broken connection leaves of one is dropped, as its event was not taken in."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
        if len(rest) > MAX_LINE:
            raise ApiError(0, f"an event is longer than {MAX_LINE} bytes, which is the most that is read")
        for line in lines:
            if line:
                yield line


def _why(error: BaseException, server: str) -> str:
    text = str(error) or type(error).__name__
    return f"no answer in time from {server}" if isinstance(error, TimeoutError) else text
