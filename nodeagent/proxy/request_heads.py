"""From the bytes of a request head to its plan and to what rules judge, under one view of the configuration.

Heads that come again byte for byte (polls, probes, hot paths) are read once: the result depends on the head and
the view alone, and is not changed afterwards.  Bounded: MAX_HEADS heads of MAX_HEAD bytes, about 4 MB.
"""

from __future__ import annotations

from collections.abc import Iterator

from nodeagent.core.fields import SECRET
from nodeagent.core.model import RequestHead
from nodeagent.core.paths import PathError, normalize
from nodeagent.core.refusals import Refusal, Refused
from nodeagent.core.request_plan import RequestPlan, plan_request
from nodeagent.proxy.http1 import parse_request
from nodeagent.proxy.view import View

MAX_HEADS = 1024
MAX_HEAD = 1024

MAX_SEEN = 8192

Read = tuple[RequestPlan, RequestHead]


class RequestHeads:
    """One per worker."""

    def __init__(self, max_fields: int) -> None:
        self._max_fields = max_fields
        self._known: dict[tuple[View, bytes], Read] = {}
        self._seen: set[int] = set()  # hashes: what came once is not worth its place

    def read(self, view: View, head: bytes) -> Read:
        """Raises Refused."""
        return self._known.get((view, head)) or self._read(view, head)

    def forget(self) -> None:
        """The views are not in force any more."""
        self._known.clear()

    def _read(self, view: View, head: bytes) -> Read:
        method, target, minor, fields = parse_request(head, self._max_fields)
        plan = plan_request(method, target, minor, fields, view.default_host)
        read = plan, _judged(view, plan)
        mark = hash(head)
        if mark in self._seen:
            self._remember(view, head, read)
        elif len(self._seen) < MAX_SEEN:
            self._seen.add(mark)
        else:
            self._seen.clear()
        return read

    def _remember(self, view: View, head: bytes, read: Read) -> None:
        if len(head) > MAX_HEAD or any(field[2] in SECRET for field in read[0].fields):
            return
        if len(self._known) >= MAX_HEADS:
            self._known.clear()
        self._known[view, head] = read


class _Headers:
    """The fields as rules want them, decoded when a rule first looks: most requests meet none that does."""

    __slots__ = ("_pairs", "_plan")

    def __init__(self, plan: RequestPlan) -> None:
        self._plan = plan
        self._pairs: tuple[tuple[str, str], ...] | None = None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        if self._pairs is None:
            fields = (*self._plan.fields, *self._plan.hop)
            self._pairs = tuple([(one[2], one[1].decode("latin-1")) for one in fields])
        return iter(self._pairs)


def _judged(view: View, plan: RequestPlan) -> RequestHead:
    path, mark, query = plan.target.decode("ascii").partition("?")
    if view.judges_paths:
        path = _normal_path(plan, path, mark, query)
    return RequestHead(plan.method, path, query, plan.host, _Headers(plan) if view.needs_fields else ())


def _normal_path(plan: RequestPlan, path: str, mark: str, query: str) -> str:
    """The normal form of the path; the request is forwarded with it.  Raises Refused."""
    try:
        normal = normalize(path)
    except PathError as error:
        raise Refused(Refusal(400, "path", "3986 6.2.2", error.reason)) from error
    if normal != path:
        plan.target = (normal + mark + query).encode("ascii")
    return normal
