"""`retry` and `sessionPersistence` of a validated HTTPRoute rule as the values that the data path goes by."""

from __future__ import annotations

import hashlib
from typing import Any

from nodeagent.core.durations import milliseconds
from nodeagent.core.traffic import Carrier, Retry, SessionPersistence

Value = dict[str, Any]


def read_retry(value: Value | None) -> Retry | None:
    """What is not given is as a TrafficPolicy has it by default.  0 attempts: no retry, whatever a policy says."""
    if value is None:
        return None
    usual = Retry()
    attempts, backoff = value.get("attempts"), value.get("backoff")
    return Retry(
        attempts=usual.attempts if attempts is None else attempts,
        codes=frozenset(value.get("codes") or usual.codes),
        backoff=milliseconds(backoff) if backoff else usual.backoff,
    )


def read_session(value: Value | None, owner: str) -> SessionPersistence | None:
    """`owner` tells the rule from others: two sessions of one name would take each other's tokens for theirs."""
    if value is None:
        return None
    carrier = Carrier(value.get("type") or "Cookie")
    cookie, header = value.get("cookie") or value.get("cookieConfig") or {}, value.get("header") or {}
    name = header.get("name") or cookie.get("name") or value.get("sessionName") or _default_name(carrier, owner)
    return SessionPersistence(
        name=name.lower() if carrier is Carrier.HEADER else name,
        carrier=carrier,
        path=cookie.get("path") or "/",
        absolute_timeout=milliseconds(value.get("absoluteTimeout") or ""),
        permanent=cookie.get("lifetimeType") == "Permanent",
    )


def _default_name(carrier: Carrier, owner: str) -> str:
    mark = hashlib.blake2b(owner.encode(), digest_size=4).hexdigest()
    return f"{'x-' if carrier is Carrier.HEADER else ''}mesh-session-{mark}"
