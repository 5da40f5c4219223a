"""Which limits a request meets, as claims of the ledger.

`LimitsOf` is made once per caller: who may be meant by a rule, and where its bucket does not depend on the request,
the claim itself.  What is left to a request are rules that look at its headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from nodeagent.core.addresses import in_cidr
from nodeagent.core.fields import SECRET
from nodeagent.core.ledger import Tokens, ledger_key
from nodeagent.core.matching import field_text
from nodeagent.core.model import Workload
from nodeagent.core.recent import Room
from nodeagent.core.traffic import Limit, Mode, Per, RateLimitPolicy, RateLimitRule

Headers = Iterable[tuple[str, str]]
MAX_VALUE = 1024
"""Characters of a header's value that tell buckets apart; longer ones that begin alike share one."""
MAX_KNOWN, MAX_KNOWN_SIZE = 64, 128
"""Requests told apart by their headers that are remembered per caller, and the characters of each."""
MAX_KNOWN_TOGETHER = 16_384
"""The same for all callers and targets of a worker, of some 3 KB each; the rest are prepared for each request."""
SECOND = 1_000_000_000
T = TypeVar("T")


class Applied(NamedTuple):
    """A rule that counts this request, and its bucket."""

    policy: RateLimitPolicy
    rule: RateLimitRule
    tokens: Tokens


class Limits(NamedTuple):
    """Dry-run rules are apart: what they refuse is counted and nothing else."""

    enforced: tuple[Applied, ...]
    dry_run: tuple[Applied, ...]


class LimitsOf(Generic[T]):
    """The limits of one caller's requests that go one way (a Treatment's `rate_limits`).

    `prepare` makes of them what the ledger takes (`Ledger.prepare`), once for all requests alike.  `static` is for
    requests that no rule looks into; when `is_static`, that is every request.  Not shared between threads.
    """

    __slots__ = ("_always", "_by_request", "_known", "_names", "_prepare", "_room", "is_static", "static")

    def __init__(
        self,
        policies: Iterable[RateLimitPolicy],
        caller: Workload,
        address: str,
        prepare: Callable[[Limits], T],
        room: Room,
    ) -> None:
        """`room` is shared with others, and not given back: it is thrown away with them."""
        rules = [(policy, rule) for policy in policies for rule in policy.rules if _means(rule, caller, address)]
        prepared = [_Prepared(policy, rule, caller, address) for policy, rule in rules]
        self._always = _sorted_out(one.applied for one in prepared if one.applied is not None)
        self._by_request = [one for one in prepared if one.applied is None]
        self._names = frozenset(name for one in self._by_request for name in one.names)
        self._prepare = prepare
        self._room = room
        self._known: dict[tuple[tuple[str, str], ...], T] = {}
        self.static = prepare(self._always)
        self.is_static = not self._by_request

    def of(self, headers: Headers) -> T:
        """Names in lower case, values as text of bytes (`RequestHead.headers`)."""
        if self.is_static:
            return self.static
        names = self._names
        fields = tuple([field for field in headers if field[0] in names])
        if not fields:
            return self.static
        known = self._known.get(fields)
        return known if known is not None else self._judge(fields)

    def _judge(self, fields: tuple[tuple[str, str], ...]) -> T:
        values: dict[str, list[str]] = {}
        for name, value in fields:
            values.setdefault(name, []).append(value)
        found = _sorted_out(applied for one in self._by_request if (applied := one.judge(values)) is not None)
        limits = Limits(self._always.enforced + found.enforced, self._always.dry_run + found.dry_run)
        return self._keep(fields, self._prepare(limits))

    def _keep(self, fields: tuple[tuple[str, str], ...], prepared: T) -> T:
        """The oldest makes room: who invents values costs time, never memory.  Secrets are not kept."""
        known = self._known
        if SECRET.isdisjoint(self._names) and sum(len(value) for _, value in fields) <= MAX_KNOWN_SIZE:
            if len(known) >= MAX_KNOWN:
                del known[next(iter(known))]
                known[fields] = prepared
            elif self._room.take(1):
                known[fields] = prepared
        return prepared


class _Prepared:
    """`applied` is ready unless the rule looks at headers."""

    __slots__ = ("_descriptor", "_policy", "_rule", "applied")

    def __init__(self, policy: RateLimitPolicy, rule: RateLimitRule, caller: Workload, address: str) -> None:
        self._policy, self._rule = policy, rule
        self._descriptor = _descriptor(rule, caller, address)
        by_request = bool(rule.headers) or rule.per is Per.HEADER
        self.applied = None if by_request else self._apply(self._descriptor)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the headers that are looked at."""
        return (self._rule.header, *(name for name, _ in self._rule.headers))

    def judge(self, values: dict[str, list[str]]) -> Applied | None:
        rule = self._rule
        if not all(_has_value(values.get(name, ()), value) for name, value in rule.headers):
            return None
        if rule.per is not Per.HEADER:
            return self._apply(self._descriptor)
        lines = values.get(rule.header)
        return None if lines is None else self._apply((",".join(lines)[:MAX_VALUE],))

    def _apply(self, descriptor: tuple[str, ...]) -> Applied:
        key = ledger_key("rate", self._policy.name, self._rule.name, self._rule.per.value, *descriptor)
        return Applied(self._policy, self._rule, tokens(key, self._rule.limit))


def tokens(key: int, limit: Limit) -> Tokens:
    """The period is rounded up: never more than the limit."""
    return Tokens(key, -(-limit.interval * 1_000_000 // limit.requests), limit.burst)


def rate_limit_headers(rule: RateLimitRule, left: int, wait: int) -> list[tuple[str, str]]:
    """Of an answer over the limit: `left` whole tokens, and the ns until the next.

    RateLimit-* are those of draft-ietf-httpapi-ratelimit-headers up to version 06, which clients know: the bucket's
    size, what is in it, seconds until there is more.
    """
    seconds = str(max(1, -(-wait // SECOND)))
    return [
        ("retry-after", seconds),
        ("ratelimit-limit", str(rule.limit.burst)),
        ("ratelimit-remaining", str(left)),
        ("ratelimit-reset", seconds),
    ]


def _means(rule: RateLimitRule, caller: Workload, address: str) -> bool:
    """Judge the selectors that look at the caller."""
    own = (f"{caller.namespace}/{caller.service_account}", f"{caller.namespace}/*")
    if rule.service_accounts and not any(account in own for account in rule.service_accounts):
        return False
    return not rule.cidrs or any(in_cidr(address, cidr) for cidr in rule.cidrs)


def _descriptor(rule: RateLimitRule, caller: Workload, address: str) -> tuple[str, ...]:
    """Whose bucket it is, as far as the caller says."""
    if rule.per is Per.SERVICE_ACCOUNT:
        return (caller.namespace, caller.service_account)
    return (address,) if rule.per is Per.SOURCE_IP else ()


def _has_value(lines: Iterable[str], wanted: str) -> bool:
    """By any line, or all joined: a limit must not be slipped past by saying the same thing twice."""
    texts = [field_text(line) for line in lines]
    return bool(texts) and (wanted in texts or wanted == ",".join(texts))


def _sorted_out(found: Iterable[Applied]) -> Limits:
    found = tuple(found)
    dry_run = tuple(applied for applied in found if applied.policy.mode is Mode.DRY_RUN)
    return Limits(tuple(applied for applied in found if applied.policy.mode is Mode.ENFORCE), dry_run)
