from __future__ import annotations

import pytest

from nodeagent.admin.api import BadQueryError
from nodeagent.agent.record_filter import describe, parse

RECORD = {
    "source": "shop/web-1",
    "destination": "shop/cart:80",
    "method": "GET",
    "path": "/items/3",
    "status": 503,
    "verdict": "error",
}


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ({}, True),
        ({"source": "shop"}, True),
        ({"source": "shop/web-1"}, True),
        ({"source": "sho"}, False),
        ({"source": "batch,shop"}, True),
        ({"to": "cart"}, True),
        ({"to": "cart.shop:80"}, True),
        ({"to": "shop/cart"}, True),
        ({"to": "cart.batch"}, False),
        ({"to": "cart:81"}, False),
        ({"method": "get,post"}, True),
        ({"path": "/items"}, True),
        ({"path": "/item/"}, False),
        ({"status": "5+"}, True),
        ({"status": "4+,503"}, True),
        ({"status": "404"}, False),
        ({"verdict": "denied"}, False),
        ({"verdict": "denied,error", "method": "GET"}, True),
        ({"verdict": "error", "method": "POST"}, False),
    ],
)
def test_filters_are_or_inside_and_and_between(query: dict[str, str], matches: bool) -> None:
    assert parse(query)(RECORD) is matches


def test_a_status_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadQueryError, match="neither a code"):
        parse({"status": "ok"})


def test_the_filters_in_use_read_as_options() -> None:
    assert describe({"status": "5+", "follow": "1"}) == "--status 5+"
    assert describe({}) == "none"
