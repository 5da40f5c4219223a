"""curl as the client: it shares no code with the mesh, nor (for HTTP/2, by nghttp2) with the servers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.conformance.cases import CURL_SAYS, Answer, Case
from tests.conformance.mesh import Mesh
from tests.testbed.shell import inside

# Per exchange, on standard error; bodies are on standard output.
ABOUT = '%{stderr}{"status": "%{http_code}", "headers": %{header_json}}\n'
GRPC_PREFIX = 5  # bytes before a message: a flag, and its length
REPEAT = 'count=$1; shift; while [ "$count" -gt 0 ]; do "$@"; count=$((count - 1)); done'


def ask(mesh: Mesh, case: Case, *, ipv6: bool = False, count: int = 1) -> list[Answer]:
    """Sends the request `count` times from the pod that the case names: on one connection, except for gRPC."""
    pod = mesh.client(case.client)
    if case.protocol == "grpc":
        # One connection for each: curl 7.88 ends with a framing error when it reuses one of HTTP/2.
        argv = ["sh", "-c", REPEAT, "repeat", str(count), *_curl(mesh, case, ipv6, 1), *_grpc(mesh)]
    else:
        argv = _curl(mesh, case, ipv6, count)
    done = subprocess.run(inside(pod.cgroup, pod.netns, argv), capture_output=True, timeout=120, check=False)
    heads = list(_documents(done.stderr.decode()))
    if len(heads) != count:
        return [Answer(0, [(CURL_SAYS, done.stderr.decode().strip())])] * count
    bodies = _messages(done.stdout, count) if case.protocol == "grpc" else _lines(done.stdout, count)
    return [_answer(head, body) for head, body in zip(heads, bodies, strict=True)]


def _curl(mesh: Mesh, case: Case, ipv6: bool, count: int) -> list[str]:
    return ["curl", "-sS", "-m", "60", "-w", ABOUT, *_headers(case), *_target(mesh, case, ipv6, count)]


def _headers(case: Case) -> Iterator[str]:
    for name, value in case.sends.items():
        yield from ("-H", f"{name}: {value}")


def _target(mesh: Mesh, case: Case, ipv6: bool, count: int) -> list[str]:
    """The URL, by name where there is one; many requests by curl's globbing of a query."""
    host, _, port = case.to.partition(":")
    address = mesh.address(host, ipv6=ipv6)
    literal = f"[{address}]" if ipv6 else address
    authority = (literal if host.endswith(".pod") else host) + (f":{port}" if port else "")
    url = f"{case.protocol.replace('grpc', 'http')}://{authority}{case.path}"
    resolve = ["--resolve", f"{host}:{port or 80}:{literal}"]
    return [*resolve, "-g", url] if count == 1 else [*resolve, f"{url}?[1-{count}]"]


def _grpc(mesh: Mesh) -> list[str]:
    """A unary call with one empty message, in JSON."""
    body = Path(mesh.bed.home) / "grpc-empty"
    body.write_bytes(bytes(GRPC_PREFIX))
    kind = ["-H", "content-type: application/grpc+json", "-H", "te: trailers"]
    return ["--http2-prior-knowledge", *kind, "--data-binary", f"@{body}"]


def _documents(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in what curl says; its error messages, which come before them, are none."""
    decoder, at = json.JSONDecoder(), text.find('{"status"')
    while at >= 0:
        document, end = decoder.raw_decode(text, at)
        yield document
        at = text.find('{"status"', end)


def _lines(output: bytes, count: int) -> list[Mapping[str, Any]]:
    """Bodies of the echo server are one line each; what is not JSON comes from no backend."""
    lines = [output] if count == 1 else output.splitlines()
    bodies = [json.loads(line) if line.startswith(b"{") else {} for line in lines]
    return bodies + [{}] * (count - len(bodies))


def _messages(output: bytes, count: int) -> list[Mapping[str, Any]]:
    messages: list[Mapping[str, Any]] = []
    while len(output) > GRPC_PREFIX:
        end = GRPC_PREFIX + int.from_bytes(output[1:GRPC_PREFIX], "big")
        messages.append(json.loads(output[GRPC_PREFIX:end]))
        output = output[end:]
    return messages + [{}] * (count - len(messages))


def _answer(head: Mapping[str, Any], body: Mapping[str, Any]) -> Answer:
    headers = [(name, value) for name, values in head["headers"].items() for value in values]
    return Answer(int(head["status"]), headers, body)
