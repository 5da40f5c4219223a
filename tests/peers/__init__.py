"""Independent HTTP/1 peers: small Go programs on net/http, built on demand with the standard library alone.

`build(name)` gives the path of a program: the name of a directory here.  They are built once into the user's cache
directory and again when a source changes, so a test run pays 1-2 s the first time and nothing after that.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent


def _go() -> str:
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if found is None:
        raise RuntimeError("no go command: the peers that check the proxy are Go programs; install golang-go")
    return found


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME") or "/tmp") / ".cache"
    return Path(base) / "nodeagent-tests"


def build(name: str) -> Path:
    """The program `name`, built if this version of its source has not been built before."""
    sources = (HERE / "go.mod", *sorted((HERE / name).glob("*.go")))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = _cache() / f"{name}-{digest}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(f".{os.getpid()}")
        quiet = {"GOFLAGS": "-mod=mod", "GO111MODULE": "on", "GOPROXY": "off", "CGO_ENABLED": "0"}
        environment = {"GOCACHE": str(_cache() / "go"), **os.environ, **quiet}
        command = [_go(), "build", "-o", str(partial), f"./{name}"]
        subprocess.run(command, cwd=HERE, env=environment, check=True)
        partial.replace(target)
    return target


@dataclass(frozen=True, slots=True)
class GoRequest:
    """A request as Go's net/http read it; header names are in Go's canonical case, values Latin-1."""

    method: str
    target: str
    host: str
    headers: dict[str, list[str]]
    body: bytes
    trailers: dict[str, list[str]]


class Reparser:
    """Go's net/http as a function from bytes to requests; one process for as many questions as wanted."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([build("reparse")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def parse(self, raw: bytes) -> tuple[list[GoRequest], str]:
        """The requests in `raw`, and an error text that is empty when they fill it exactly."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(len(raw).to_bytes(4, "big") + raw)
        self._process.stdin.flush()
        report = json.loads(self._process.stdout.readline())
        return [_request(row) for row in report["requests"]], report["error"]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=5)
        self._process.stdout.close()


def _request(row: dict[str, object]) -> GoRequest:
    return GoRequest(
        method=str(row["method"]),
        target=str(row["target"]),
        host=str(row["host"]),
        headers=row["headers"] or {},  # type: ignore[arg-type]  # JSON null stands for an empty http.Header
        body=base64.b64decode(str(row["body"] or "")),
        trailers=row["trailers"] or {},  # type: ignore[arg-type]
    )
