"""A failed try is followed by another only where that is asked for, safe, in time and paid for."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.ledger import BudgetRequest, BudgetRetry
from nodeagent.core.retries import (
    IDEMPOTENT,
    MAX_DELAY,
    MAX_JITTER,
    Failure,
    NoRetry,
    backoff_ms,
    budget_claims,
    fits,
    is_repeatable,
    retry_after_seconds,
    why_not,
)
from nodeagent.core.traffic import Retry, RetryBudget

RFC_EXAMPLE = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
RETRY = Retry(attempts=2, codes=frozenset({503}))
failures = st.sampled_from(Failure)
methods = st.sampled_from(("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "POST", "PATCH", "CONNECT", "get"))
rands = st.floats(0, 1, exclude_max=True)
retries = st.builds(
    Retry,
    st.integers(0, 10),
    st.frozensets(st.sampled_from((500, 502, 503, 504, 429))),
    st.booleans(),
    st.integers(0, 60_000),
)


# ---- whether ----


@given(retries, failures, st.sampled_from((0, 200, 429, 500, 503)), methods, st.booleans(), st.booleans())
def test_what_was_sent_is_repeated_only_if_idempotent_and_at_hand(
    retry: Retry, failure: Failure, status: int, method: str, sent: bool, held: bool
) -> None:
    repeatable = is_repeatable(method, sent=sent, held=held)
    if why_not(retry, failure, status, 0, repeatable=repeatable) is None:
        assert not sent or (held and method in IDEMPOTENT)


@given(retries, failures, st.integers(0, 599), st.integers(0, 20), st.booleans())
def test_there_are_never_more_retries_than_attempts(
    retry: Retry, failure: Failure, status: int, made: int, repeatable: bool
) -> None:
    if why_not(retry, failure, status, made, repeatable=repeatable) is None:
        assert made < retry.attempts


def test_a_post_is_tried_again_when_no_connection_was_made() -> None:
    assert is_repeatable("POST", sent=False, held=False)
    assert why_not(RETRY, Failure.CONNECT, 0, 0, repeatable=True) is None


@pytest.mark.parametrize(
    ("failure", "status", "expected"),
    [
        (Failure.STATUS, 503, None),
        (Failure.STATUS, 500, NoRetry.NOT_ASKED),
        (Failure.STATUS, 200, NoRetry.NOT_ASKED),
        (Failure.CONNECT, 0, None),
        (Failure.RESET, 0, None),
        (Failure.TRY_TIMEOUT, 0, None),
    ],
)
def test_codes_say_which_responses_are_failures(failure: Failure, status: int, expected: NoRetry | None) -> None:
    assert why_not(RETRY, failure, status, 0, repeatable=True) is expected


def test_connect_failures_are_left_alone_when_the_policy_says_so() -> None:
    retry = Retry(on_connect_failure=False)
    assert why_not(retry, Failure.CONNECT, 0, 0, repeatable=True) is NoRetry.NOT_ASKED
    assert why_not(retry, Failure.RESET, 0, 0, repeatable=True) is None


def test_no_attempts_disable_retries() -> None:
    assert why_not(Retry(attempts=0), Failure.CONNECT, 0, 0, repeatable=True) is NoRetry.ATTEMPTS


def test_a_response_that_is_no_failure_is_never_called_unsafe() -> None:
    assert why_not(RETRY, Failure.STATUS, 200, 9, repeatable=False) is NoRetry.NOT_ASKED
    assert why_not(RETRY, Failure.STATUS, 503, 9, repeatable=False) is NoRetry.UNSAFE


# ---- when ----


@given(retries, st.integers(1, 1000), rands, st.none() | st.floats(0, 1e6))
def test_a_wait_is_never_below_backoff_or_retry_after(
    retry: Retry, attempt: int, rand: float, retry_after: float | None
) -> None:
    wait = backoff_ms(retry, attempt, rand, retry_after)
    least = max(retry.backoff, (retry_after or 0) * 1000)
    assert wait >= least
    assert wait - least <= MAX_JITTER * retry.backoff * (1 + 1e-9) + 1e-6


@pytest.mark.parametrize(("attempt", "span"), [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (6, 250), (500, 250)])
def test_jitter_doubles_up_to_its_cap(attempt: int, span: int) -> None:
    retry = Retry(backoff=25)
    assert backoff_ms(retry, attempt, 0.0) == 25
    assert backoff_ms(retry, attempt, 0.5) == 25 + span / 2


@given(st.floats(0, 1e6), st.none() | st.floats(0, 1e6))
def test_a_wait_fits_only_if_time_is_left_after_it(wait: float, left: float | None) -> None:
    assert fits(wait, left) == (left is None or left - wait > 0)


# ---- the budget ----


def test_both_claims_are_of_one_budget_in_nanoseconds() -> None:
    request, retry = budget_claims(RetryBudget(20, 10_000, 10, 1000), "shop/p", "shop/cart:80")
    assert request == BudgetRequest(request.key, 10_000_000_000)
    assert retry == BudgetRetry(request.key, 10_000_000_000, 20, 10, 1_000_000_000)


def test_backends_and_policies_have_budgets_of_their_own() -> None:
    keys = {budget_claims(RetryBudget(), *names)[0].key for names in (("a", "b"), ("a", "c"), ("b", "b"), ("ab",))}
    assert len(keys) == 4


# ---- Retry-After ----


@pytest.mark.parametrize(
    "date", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_every_form_of_a_date_is_read(date: str) -> None:
    assert retry_after_seconds(date, RFC_EXAMPLE - 90.5) == 90.5


def test_a_date_in_the_past_means_now() -> None:
    assert retry_after_seconds("Sun, 06 Nov 1994 08:49:37 GMT", RFC_EXAMPLE + 1) == 0


def test_two_digits_of_a_year_are_never_more_than_50_years_ahead() -> None:
    in_2026 = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert retry_after_seconds("Friday, 01-Jan-77 00:00:00 GMT", in_2026) == 0
    assert retry_after_seconds("Wednesday, 01-Jan-76 00:00:00 GMT", in_2026) == pytest.approx(
        50 * 365.25 * 86400, rel=0.01
    )


def test_a_leap_second_is_a_second() -> None:
    before = datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert retry_after_seconds("Sat, 31 Dec 2016 23:59:60 GMT", before) == 1


@pytest.mark.parametrize(
    ("value", "expected"), [("0", 0), ("120", 120), ("0007", 7), ("9" * 10, 9_999_999_999), ("9" * 5000, MAX_DELAY)]
)
def test_seconds_are_read(value: str, expected: float) -> None:
    assert retry_after_seconds(value, RFC_EXAMPLE) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "-1",
        "+1",
        "1.5",
        "1 s",
        "soon",
        "\u0661\u0662",
        "\u00b2",
        "0x10",
        "1e3",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Fri, 31 Dec 9999 23:59:60 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
    ],
)
def test_nonsense_asks_for_nothing(value: str) -> None:
    assert retry_after_seconds(value, RFC_EXAMPLE) is None


@given(st.text(max_size=40), st.floats(0, 4e9))
def test_whatever_a_server_sends_the_result_is_a_time_or_none(value: str, now: float) -> None:
    seconds = retry_after_seconds(value, now)
    assert seconds is None or seconds >= 0


@given(st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31)), st.integers(0, 4_000_000_000))  # noqa: DTZ001
def test_dates_agree_with_the_mail_library(moment: datetime, now: int) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    expected = max(0, moment.timestamp() - now)
    assert retry_after_seconds(format_datetime(moment, usegmt=True), now) == expected
