"""One request of a conformance test, what has to come of it, and what is wrong with what came."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MESH, CONSUMER = "gateway-conformance-mesh", "gateway-conformance-mesh-consumer"
CURL_SAYS = "x-curl"  # stands for a header where there was no response: why not
DEFAULT_PORT = {"http": 80, "https": 443}


class UnmetError(AssertionError):
    """The mesh did something else than the suite expects."""


@dataclass(frozen=True)
class Redirect:
    """Where a redirect leads.  What a test does not name stays as it was asked for: None."""

    scheme: str = "http"
    host: str | None = None
    port: int | None = None
    path: str | None = None


@dataclass(frozen=True)
class Case:
    """A request of the pod echo-v1 of the namespace `client`, and the expected outcome.

    `to` is HOST[:PORT] that is dialled, a Service's name or POD.pod for a pod's own address.  Header values that
    are expected are all values of that name, joined by commas.
    """

    path: str = "/"
    to: str = "echo"
    sends: Mapping[str, str] = field(default_factory=dict)
    client: str = MESH
    status: int = 200
    backend: str = ""  # of the namespace MESH; "": any pod of it
    seen_path: str | None = None  # by the backend; None: as it was sent
    seen: Mapping[str, str] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    answered: Mapping[str, str] = field(default_factory=dict)
    unanswered: tuple[str, ...] = ()
    redirect: Redirect | None = None
    protocol: str = "http"  # or grpc

    def __str__(self) -> str:
        headers = "".join(f" {name}: {value}" for name, value in self.sends.items())
        return f"{self.protocol}://{self.to}{self.path}{headers} from {self.client}"


@dataclass(frozen=True)
class Answer:
    """What came back; `echo` is what the backend says it received, {} where no backend answered."""

    status: int  # 0: no response
    headers: Iterable[tuple[str, str]] = ()
    echo: Mapping[str, Any] = field(default_factory=dict)


def faults(case: Case, answer: Answer) -> list[str]:
    """All differences between what is expected and what came; [] when it conforms."""
    if answer.status != case.status:
        said = _joined(answer.headers).get(CURL_SAYS, "")
        return [f"status {answer.status}, not {case.status} {said}".rstrip()]
    wrong = _header_faults("response", answer.headers, case.answered, case.unanswered)
    if case.redirect is not None:
        wrong += _redirect_faults(case, _joined(answer.headers).get("location", ""))
    if case.status == 200:
        wrong += _backend_faults(case, answer.echo)
    return wrong


def _backend_faults(case: Case, echo: Mapping[str, Any]) -> list[str]:
    pod, path = (echo.get("namespace", ""), echo.get("pod", "")), echo.get("path", "")
    expected_path = case.path if case.seen_path is None else case.seen_path
    wrong = [] if pod[0] == MESH and str(pod[1]).startswith(case.backend or "echo-") else [f"served by {pod}"]
    if path != expected_path:
        wrong.append(f"the backend saw path {path}, not {expected_path}")
    return wrong + _header_faults("request", echo.get("headers", ()), case.seen, case.unseen)


def _joined(headers: Iterable[Iterable[str]]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)
    return {name: ",".join(each) for name, each in values.items()}


def _header_faults(
    where: str, headers: Iterable[Iterable[str]], wanted: Mapping[str, str], unwanted: Iterable[str]
) -> list[str]:
    there = _joined(headers)
    wrong = [
        f"{where} header {name} is {there.get(name.lower())!r}, not {value!r}"
        for name, value in wanted.items()
        if there.get(name.lower()) != value
    ]
    return wrong + [f"{where} header {name} is there" for name in unwanted if name.lower() in there]


def _redirect_faults(case: Case, location: str) -> list[str]:
    assert case.redirect is not None
    wanted, got = case.redirect, urllib.parse.urlsplit(location)
    expected = {
        "scheme": wanted.scheme,
        "host": wanted.host or case.to.partition(":")[0],
        "port": wanted.port or DEFAULT_PORT[wanted.scheme],
        "path": case.path if wanted.path is None else wanted.path,
    }
    found = {
        "scheme": got.scheme,
        "host": got.hostname,
        "port": got.port or DEFAULT_PORT.get(got.scheme),
        "path": got.path,
    }
    return [
        f"location {location!r}: {part} {found[part]!r}, not {value!r}"
        for part, value in expected.items()
        if found[part] != value
    ]
