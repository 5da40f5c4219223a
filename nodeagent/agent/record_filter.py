"""Which request records a watcher wants: any value of one filter, all filters together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nodeagent.admin.api import BadQueryError

Record = dict[str, Any]
Test = Callable[[Record], bool]


def parse(query: Mapping[str, str]) -> Callable[[Record], bool]:
    """From comma-separated values per filter; BadQueryError names a value that makes no sense."""
    tests = [_any_of(make, query[name].split(",")) for name, make in FILTERS.items() if query.get(name)]
    return lambda record: all(test(record) for test in tests)


def describe(query: Mapping[str, str]) -> str:
    """The filters in use, as the user wrote them."""
    used = [f"--{'from' if name == 'source' else name} {query[name]}" for name in FILTERS if query.get(name)]
    return " ".join(used) or "none"


def _any_of(make: Callable[[str], Test], values: list[str]) -> Test:
    tests = [make(value) for value in values]
    return lambda record: any(test(record) for test in tests)


def _source(value: str) -> Test:
    """ "shop", "shop/web-1"."""
    if "/" in value:
        return lambda record: bool(record.get("source") == value)
    return lambda record: str(record.get("source", "")).startswith(value + "/")


def _destination(value: str) -> Test:
    """ "cart", "cart.shop", "shop/cart", each with or without ":80"."""
    name, colon, port = value.partition(":")
    namespace, slash, service = name.partition("/")
    if not slash:
        service, _, namespace = name.partition(".")
        namespace = namespace.partition(".")[0]

    def test(record: Record) -> bool:
        there, _, rest = str(record.get("destination", "")).rpartition("/")
        name_there, _, port_there = rest.partition(":")
        return name_there == service and namespace in ("", there) and (not colon or port == port_there)

    return test


def _method(value: str) -> Test:
    return lambda record: bool(record.get("method") == value.upper())


def _path(value: str) -> Test:
    return lambda record: str(record.get("path", "")).startswith(value)


def _status(value: str) -> Test:
    """ "404", or "5+" for 500 to 599."""
    if value.endswith("+") and value[:-1].isdigit() and len(value) == 2:
        return lambda record: int(record.get("status", 0)) // 100 == int(value[0])
    if not value.isdigit():
        raise BadQueryError(f"status {value!r} is neither a code like 404 nor a class like 5+")
    return lambda record: bool(record.get("status") == int(value))


def _verdict(value: str) -> Test:
    return lambda record: bool(record.get("verdict") == value)


FILTERS: dict[str, Callable[[str], Test]] = {
    "source": _source,
    "to": _destination,
    "method": _method,
    "path": _path,
    "status": _status,
    "verdict": _verdict,
}
