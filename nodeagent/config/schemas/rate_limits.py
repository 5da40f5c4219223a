"""RateLimitPolicy (mesh.nodeagent.dev/v1alpha1): fields, limits and cross-field rules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.cel import Cel, in_cel, listed
from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Fields, Items, Schema, Text, Whole
from nodeagent.config.schemas.authorization import ACCOUNT, CIDR
from nodeagent.config.schemas.common import HEADER_NAME, LABEL, top_level
from nodeagent.config.schemas.durations import HOUR, duration
from nodeagent.config.schemas.filters import UNCHANGEABLE, header_fault, value_fault
from nodeagent.config.schemas.status import POLICY_STATUS
from nodeagent.config.schemas.targets import MODE, targets

MAX_TOKENS = 1_000_000  # as many an hour, in nanoseconds, still fit the data path's 64 bits


@in_cel(Cel("has(self.http) || has(self.connections)", "must set at least one of http, connections"))
def something_is_limited(spec: dict[str, Any]) -> Iterator[FieldError]:
    if spec.get("http") is None and spec.get("connections") is None:
        yield FieldError((), "must set at least one of http, connections")


@in_cel(
    Cel(
        "!has(self.connections) || self.targetRefs.all(target, target.kind == 'Service')",
        "targetRefs: connections are counted before a route is known, so only a Service can limit them",
        ".targetRefs",
    )
)
def connections_are_of_a_service(spec: dict[str, Any]) -> Iterator[FieldError]:
    """connect() knows the address that is dialled, and no request yet."""
    if spec.get("connections") is None:
        return
    for index, target in enumerate(spec["targetRefs"]):
        if target["kind"] != "Service":
            message = f"unsupported value {target['kind']!r}: connections are counted before a route is known"
            yield FieldError(("targetRefs", index, "kind"), f"{message}, so only a Service can limit them")


@in_cel(
    Cel(
        "!has(self.per) || self.per != 'Header' || has(self.header)",
        "header is required when the limit is per Header",
        ".header",
    ),
    Cel(
        "!has(self.header) || has(self.per) && self.per == 'Header'",
        "header is only allowed when the limit is per Header",
        ".header",
    ),
)
def header_is_named_where_it_counts(rule: dict[str, Any]) -> Iterator[FieldError]:
    per, given = rule.get("per") or "Total", rule.get("header") is not None
    if per == "Header" and not given:
        yield FieldError(("header",), "required value is missing: the limit is per Header")
    if per != "Header" and given:
        yield FieldError(("header",), f"must not be given when the limit is per {per}")


@in_cel(
    Cel(
        "has(self.serviceAccounts) || has(self.headers) || has(self.sourceCIDRs)",
        "clientSelectors must set at least one of serviceAccounts, headers, sourceCIDRs; without it all are counted",
    )
)
def selectors_select(selectors: dict[str, Any]) -> Iterator[FieldError]:
    if not any(selectors.values()):
        names = "serviceAccounts, headers, sourceCIDRs"
        yield FieldError((), f"must set at least one of {names}; leave clientSelectors out to count every request")


@in_cel(
    Cel(
        f"!has(self.headers) || self.headers.all(header, !(header.name.lowerAscii() in {listed(UNCHANGEABLE)}))",
        "headers[].name: a field of the framing of the message, or of one connection, must not be set",
        ".headers",
    ),
    Cel(
        "!has(self.headers) || self.headers.all(one, self.headers.exists_one(other, "
        "other.name.lowerAscii() == one.name.lowerAscii()))",
        "headers[].name: duplicate value (header names do not differ by case)",
        ".headers",
    ),
)
def answer_has_fields_of_its_own(answer: dict[str, Any]) -> Iterator[FieldError]:
    """None of the framing, and none twice: names differ by more than case."""
    seen: set[str] = set()
    for index, header in enumerate(answer.get("headers") or []):
        name, at = header["name"].lower(), ("headers", index, "name")
        fault = header_fault(name)
        if fault:
            yield FieldError(at, f"{header['name']!r} {fault}")
        if name in seen:
            yield FieldError(at, f"duplicate value: {header['name']!r} (header names do not differ by case)")
        seen.add(name)


def _limit(what: str) -> Fields:
    count = Whole(1, MAX_TOKENS)
    return Fields({what: count, "interval": duration(1, HOUR), "burst": count}, (what,))


_HEADER = Fields({"name": HEADER_NAME, "value": Text(least=1, most=4096, check=value_fault)}, ("name", "value"))
_SELECTORS: dict[str, Schema] = {
    "serviceAccounts": Items(ACCOUNT, least=1, most=16, unique=("namespace", "name")),
    "headers": Items(_HEADER, least=1, most=16, unique=("name",)),
    "sourceCIDRs": Items(CIDR, least=1, most=16),
}
_RULE = Fields(
    {
        "name": LABEL,
        "per": Text(enum=("Total", "ServiceAccount", "Header", "SourceIP")),
        "header": HEADER_NAME,
        "clientSelectors": Fields(_SELECTORS, rules=(selectors_select,)),
        "limit": _limit("requests"),
    },
    ("name", "limit"),
    rules=(header_is_named_where_it_counts,),
)
_HTTP = Fields(
    {
        "rules": Items(_RULE, least=1, most=16, unique=("name",)),
        "onLimit": Fields(
            {"status": Whole(400, 599), "headers": Items(_HEADER, most=16)}, rules=(answer_has_fields_of_its_own,)
        ),
    },
    ("rules",),
)
_SPEC = Fields(
    {
        "targetRefs": targets("Service", "HTTPRoute"),
        "mode": MODE,
        "http": _HTTP,
        "connections": Fields({"limit": _limit("connections")}, ("limit",)),
    },
    ("targetRefs",),
    rules=(something_is_limited, connections_are_of_a_service),
)
RATE_LIMIT_POLICY = top_level({"spec": _SPEC, "status": POLICY_STATUS}, ("spec",))
