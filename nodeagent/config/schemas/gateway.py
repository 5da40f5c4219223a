"""HTTPRoute (gateway.networking.k8s.io/v1, standard channel): fields, limits and cross-field rules.

Enums are open: a value that this release does not know rejects its rule, with a condition, and not the route; see
nodeagent.config.rule_faults.  Cross-field rules are named for the sentence that Gateway API gives to its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodeagent.config.cel import Cel, in_cel
from nodeagent.config.problems import FieldError
from nodeagent.config.schema import Anything, Fields, Items, Text, Whole
from nodeagent.config.schemas.common import (
    HEADER_NAME,
    REFERENCE,
    SUBDOMAIN,
    path_fault,
    service_backend_has_port,
    top_level,
)
from nodeagent.config.schemas.durations import DURATION
from nodeagent.config.schemas.filters import FILTERS, redirects_have_no_backend, replaced_prefix_is_the_only_match
from nodeagent.config.schemas.sessions import RETRY, SESSION_PERSISTENCE
from nodeagent.core.durations import milliseconds

MAX_MATCHES = 128
_ENUM = Text(least=1)
_HOSTNAME = Text(
    pattern=r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
    shape="a hostname (lower case, no port, at most a leading *.)",
    least=1,
    most=253,
)


def plain_path_is_absolute_and_normal(path: dict[str, Any]) -> Iterator[FieldError]:
    """Exact and PathPrefix values: start with "/", hold no empty or dot segment and no escaped slash."""
    if path.get("type") not in (None, "Exact", "PathPrefix") or path.get("value") is None:
        return
    fault = path_fault(path["value"])
    if fault:
        yield FieldError(("value",), f"{path['value']!r} {fault}")


def total_matches_are_below_the_limit(rules: list[dict[str, Any]]) -> Iterator[FieldError]:
    total = sum(len(rule.get("matches") or [None]) for rule in rules)
    if total > MAX_MATCHES:
        yield FieldError((), f"has {total} matches over all rules; at most {MAX_MATCHES} are allowed")


def rule_names_are_unique(rules: list[dict[str, Any]]) -> Iterator[FieldError]:
    seen: set[str] = set()
    for index, rule in enumerate(rules):
        name = rule.get("name") or ""
        if name in seen:
            yield FieldError((index, "name"), f"duplicate value: {name!r}")
        seen |= {name} - {""}


def parents_are_told_apart(parents: list[dict[str, Any]]) -> Iterator[FieldError]:
    """Two references to the same parent need different sectionName or port."""
    seen: set[tuple[Any, ...]] = set()
    for index, parent in enumerate(parents):
        key = tuple(parent.get(name) for name in ("group", "kind", "namespace", "name", "sectionName", "port"))
        if key in seen:
            yield FieldError(
                (index,), f"duplicate value: parent {parent['name']!r}; tell them apart by sectionName or port"
            )
        seen.add(key)


@in_cel(
    Cel(
        "!has(self.request) || !has(self.backendRequest) || duration(self.request) == duration('0s') "
        "|| duration(self.backendRequest) <= duration(self.request)",
        "backendRequest must not be longer than request",
        ".backendRequest",
    )
)
def request_timeout_covers_backend_timeout(timeouts: dict[str, Any]) -> Iterator[FieldError]:
    request, backend = timeouts.get("request"), timeouts.get("backendRequest")
    if request and backend and milliseconds(request) and milliseconds(backend) > milliseconds(request):
        yield FieldError(("backendRequest",), f"{backend} must not be longer than request ({request})")


_PARENT = Fields({**REFERENCE, "sectionName": SUBDOMAIN}, ("name",))
_BACKEND = Fields(
    {**REFERENCE, "weight": Whole(0, 1_000_000), "filters": FILTERS},
    ("name",),
    rules=(service_backend_has_port,),
)
_PATH = Fields({"type": _ENUM, "value": Text(most=1024)}, rules=(plain_path_is_absolute_and_normal,))
_HEADER = Fields({"type": _ENUM, "name": HEADER_NAME, "value": Text(least=1, most=4096)}, ("name", "value"))
_QUERY = Fields({"type": _ENUM, "name": HEADER_NAME, "value": Text(least=1, most=1024)}, ("name", "value"))
_MATCH = Fields(
    {
        "path": _PATH,
        "method": Text(least=1, most=64),
        "headers": Items(_HEADER, most=16, unique=("name",)),
        "queryParams": Items(_QUERY, most=16, unique=("name",)),
    }
)
_RULE = Fields(
    {
        "name": SUBDOMAIN,
        "matches": Items(_MATCH, most=64),
        "filters": FILTERS,
        "backendRefs": Items(_BACKEND, most=16),
        "timeouts": Fields(
            {"request": DURATION, "backendRequest": DURATION}, rules=(request_timeout_covers_backend_timeout,)
        ),
        "retry": RETRY,
        "sessionPersistence": SESSION_PERSISTENCE,
    },
    rules=(redirects_have_no_backend, replaced_prefix_is_the_only_match),
)
HTTP_ROUTE = top_level(
    {
        "spec": Fields(
            {
                "parentRefs": Items(_PARENT, most=32, rules=(parents_are_told_apart,)),
                "hostnames": Items(_HOSTNAME, most=16),
                "rules": Items(
                    _RULE, least=1, most=16, rules=(total_matches_are_below_the_limit, rule_names_are_unique)
                ),
            }
        ),
        "status": Anything(),
    },
    ("spec",),
)
