"""Whether a try that failed is followed by another, and how long after it (GEP-1731; the budget: GEP-3388).

A failed try is one of four things (`Failure`).  What may follow is asked in this order, each by a function here:

    why_not     do the policy and the request permit one more?
    backoff_ms  the wait before it
    fits        does that wait end before the request's own time does?
    the budget  do all requests to the backend together permit it?  `budget_claims`, taken from the ledger
"""

from __future__ import annotations

import enum
import re
from datetime import UTC, datetime, timedelta

from nodeagent.core.ledger import BudgetRequest, BudgetRetry, ledger_key
from nodeagent.core.traffic import Retry, RetryBudget

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 9.2.2: doing it twice is doing it once."""
MAX_JITTER = 10
"""The random part of a wait is less than so many times the backoff."""
MS = 1_000_000
"""Nanoseconds."""


class Failure(enum.Enum):
    CONNECT = "connect"  # no connection: not a byte was sent
    RESET = "reset"  # the connection ended before a response began
    STATUS = "status"  # a response came
    TRY_TIMEOUT = "try-timeout"  # none came in the time of one try


class NoRetry(enum.Enum):
    """Why a failed try is the last one; the first that is true."""

    NOT_ASKED = "not-asked"  # the policy does not retry this failure; not an error if it is a STATUS
    UNSAFE = "unsafe"  # the request may have been processed, or is not at hand any more
    ATTEMPTS = "attempts"


def is_repeatable(method: str, *, sent: bool, held: bool) -> bool:
    """May these bytes go out once more?  `sent`: some went; `held`: all of the request is at hand, to send again."""
    return not sent or (held and method in IDEMPOTENT)


def why_not(retry: Retry, failure: Failure, status: int, retries: int, *, repeatable: bool) -> NoRetry | None:
    """None = one more.  `status` is of a STATUS failure; `retries` made so far; `repeatable`: `is_repeatable`.

    RESET and TRY_TIMEOUT are always asked for: GEP-1731 wants the next try scheduled, and what makes it dangerous
    (the request may have been processed) is kept out by `repeatable`.
    """
    if not _is_asked(retry, failure, status):
        return NoRetry.NOT_ASKED
    if not repeatable:
        return NoRetry.UNSAFE
    return NoRetry.ATTEMPTS if retries >= retry.attempts else None


def _is_asked(retry: Retry, failure: Failure, status: int) -> bool:
    if failure is Failure.STATUS:
        return status in retry.codes
    return retry.on_connect_failure or failure is not Failure.CONNECT


def backoff_ms(retry: Retry, attempt: int, rand: float, retry_after: float | None = None) -> float:
    """Milliseconds before retry number `attempt` (1 = the first): never less than the backoff or `retry_after` (s).

    Above that full jitter: uniform below backoff x 2^(attempt - 1), and below MAX_JITTER x backoff.
    """
    least = max(retry.backoff, retry_after * 1000) if retry_after is not None else retry.backoff
    doubled = 1 << min(attempt - 1, MAX_JITTER)  # more bits than the cap ever lets through
    return least + rand * retry.backoff * min(doubled, MAX_JITTER)


def fits(wait: float, left: float | None) -> bool:
    """True when something is left of the request's time (ms, None = no end) after the wait: a try needs some."""
    return left is None or wait < left


def budget_claims(budget: RetryBudget, *names: str) -> tuple[BudgetRequest, BudgetRetry]:
    """What each request takes, and what each retry takes; `names` say whose budget it is (policy, backend)."""
    key, interval = ledger_key("retry-budget", *names), budget.interval * MS
    return (
        BudgetRequest(key, interval),
        BudgetRetry(key, interval, budget.percent, budget.floor, budget.floor_interval * MS),
    )


# ---- Retry-After ----

MAX_DELAY = 10_000_000_000.0
"""Seconds.  More digits than this has are not computed: nobody waits so long."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SHORT, _LONG = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH, _TIME = f"(?P<month>{'|'.join(_MONTHS)})", "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DATES = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        rf"{_SHORT}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",  # IMF-fixdate
        rf"{_LONG}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # RFC 850
        rf"{_SHORT} {_MONTH} (?P<day>[0-9 ][0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime
    )
)


def retry_after_seconds(value: str, now_epoch: float) -> float | None:
    """Seconds that a Retry-After field asks for (RFC 9110 10.2.3), >= 0; None for what is neither number nor date."""
    if value.isascii() and value.isdigit():
        return float(value) if len(value) <= 10 else MAX_DELAY
    epoch = _http_date(value, now_epoch)
    return None if epoch is None else max(0.0, epoch - now_epoch)


def _http_date(value: str, now_epoch: float) -> float | None:
    """RFC 9110 5.6.7: all three forms must be understood.  The name of the day is not held against the date."""
    match = next((match for date in _DATES if (match := date.fullmatch(value))), None)
    if match is None:
        return None
    month = _MONTHS.index(match["month"]) + 1
    day, hour, minute, second = (int(match[part]) for part in ("day", "hour", "minute", "second"))
    try:
        whole = datetime(_full_year(match["year"], now_epoch), month, day, hour, minute, tzinfo=UTC)
        leap = timedelta(seconds=second) if second <= 60 else None
        return (whole + leap).timestamp() if leap is not None else None
    except (ValueError, OverflowError):  # 31 Feb, 25:00, or a second after the year 9999
        return None


def _full_year(digits: str, now_epoch: float) -> int:
    """Two digits that seem to be more than 50 years ahead mean the century before."""
    if len(digits) == 4:
        return int(digits)
    this = datetime.fromtimestamp(now_epoch, UTC).year
    year = this - this % 100 + int(digits)
    return year - 100 if year > this + 50 else year
