"""Tokens of sessions: each leads back to its endpoint, and nothing else leads anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.model import Endpoint
from nodeagent.core.sessions import Sessions, sessions_of
from nodeagent.core.traffic import Carrier, SessionPersistence

NOW = 1_800_000_000.0
ENDPOINTS = tuple(Endpoint(f"10.0.0.{number}", 8080) for number in range(1, 5))
COOKIE, HEADER = SessionPersistence("s"), SessionPersistence("x-s", Carrier.HEADER)


def of(session: SessionPersistence, endpoints: tuple[Endpoint, ...] = ENDPOINTS) -> Sessions:
    return sessions_of(session, "shop/r 0", endpoints)


def brought_back(sessions: Sessions, endpoint: Endpoint, now: float = NOW) -> list[tuple[str, str]]:
    """The field that a client sends after it got the token."""
    name, value = sessions.response_field(endpoint, now)
    return [("cookie", value.partition(";")[0])] if name == "set-cookie" else [(name, value)]


@pytest.mark.parametrize("session", [COOKIE, HEADER])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_token_leads_back_to_its_endpoint(session: SessionPersistence, endpoint: Endpoint) -> None:
    sessions = of(session)
    assert sessions.endpoint(brought_back(sessions, endpoint), NOW) == endpoint
    assert of(session, ENDPOINTS[::-1]).endpoint(brought_back(sessions, endpoint), NOW) == endpoint


@pytest.mark.parametrize("session", [COOKIE, HEADER])
def test_a_token_of_an_endpoint_that_is_gone_is_as_good_as_none(session: SessionPersistence) -> None:
    field = brought_back(of(session), ENDPOINTS[0])
    assert of(session, ENDPOINTS[1:]).endpoint(field, NOW) is None


def test_a_token_of_another_rule_means_nothing() -> None:
    other = sessions_of(COOKIE, "shop/r 1", ENDPOINTS)
    assert of(COOKIE).endpoint(brought_back(other, ENDPOINTS[0]), NOW) is None


def test_a_token_does_not_show_the_address() -> None:
    for endpoint in ENDPOINTS:
        assert endpoint.address not in str(of(COOKIE).response_field(endpoint, NOW))


@given(st.text(max_size=80), st.sampled_from((COOKIE, HEADER, SessionPersistence("s", absolute_timeout=1000))))
def test_whatever_a_client_makes_up_leads_nowhere(value: str, session: SessionPersistence) -> None:
    sessions = of(session)
    for field in (("cookie", f"s={value}"), ("cookie", value), ("x-s", value)):
        assert sessions.endpoint([field], NOW) is None


def test_other_cookies_are_passed_over_and_the_first_known_one_counts() -> None:
    sessions = of(COOKIE)
    first, second = (brought_back(sessions, endpoint)[0][1] for endpoint in ENDPOINTS[:2])
    fields = [("cookie", f"a=b; s=made-up;{first}"), ("host", "a"), ("cookie", second)]
    assert sessions.endpoint(fields, NOW) == ENDPOINTS[0]
    assert sessions.endpoint([("cookie", f"xs={first[2:]}; t={first[2:]}")], NOW) is None


def test_a_cookie_of_a_session_is_for_the_browsers_own_time() -> None:
    name, value = of(SessionPersistence("s", path="/a")).response_field(ENDPOINTS[0], NOW)
    token, *attributes = value.split("; ")
    assert (name, attributes) == ("set-cookie", ["Path=/a", "HttpOnly"])
    assert len(token.removeprefix("s=")) == 16


def test_a_permanent_cookie_says_how_long_it_lives() -> None:
    session = SessionPersistence("s", absolute_timeout=90_000, permanent=True)
    assert "; Max-Age=90; " in of(session).response_field(ENDPOINTS[0], NOW)[1]
    assert of(session).endpoint(brought_back(of(session), ENDPOINTS[0]), NOW + 1e6) == ENDPOINTS[0]


@pytest.mark.parametrize("carrier", Carrier)
def test_any_other_session_ends_when_its_token_says(carrier: Carrier) -> None:
    sessions = of(SessionPersistence("s", carrier, absolute_timeout=60_000))
    field = brought_back(sessions, ENDPOINTS[0])
    assert sessions.endpoint(field, NOW + 59.9) == ENDPOINTS[0]
    assert sessions.endpoint(field, NOW + 60) is None
    name, value = field[0]
    endless = value.partition(".")[0]
    assert sessions.endpoint([(name, endless)], NOW) is None
    assert sessions.endpoint([(name, f"{endless}.{'f' * 12}")], NOW) is None, "no later than a token made now"
