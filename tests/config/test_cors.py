"""CORS filters in manifests: what they are read as, and what is refused with which words."""

from __future__ import annotations

import pytest

from nodeagent.config.conditions import PARTIALLY_INVALID
from nodeagent.core.cors import Cors
from nodeagent.core.model import Rule
from tests.config import builders as some
from tests.testbed import manifests
from tests.testbed.manifests import Document, backend

BASE = [*some.callers(), *some.service("cart")]


def route(*filters: Document, on_backend: tuple[Document, ...] = ()) -> Document:
    rule = {"filters": list(filters), "backendRefs": [{**backend("cart", 1), "filters": list(on_backend)}]}
    return manifests.http_route("shop", "r", "cart", [rule])


def cors(**fields: object) -> Document:
    return {"type": "CORS", "cors": fields}


def compiled(document: Document) -> Rule:
    (rule,) = some.snapshot(*BASE, document).destinations[some.VIP, 80].producer_rules
    return rule


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Cors()),
        ({"allowOrigins": ["*"]}, Cors(any_origin=True)),
        (
            {"allowOrigins": ["https://shop.example", "http://*.Shop.example:8080", "https://*"]},
            Cors((("https", "shop.example", 443), ("http", "*.shop.example", 8080), ("https", "*", 443))),
        ),
        (
            {"allowMethods": ["GET", "PUT"], "allowHeaders": ["X-A", "x-b"], "exposeHeaders": ["*"]},
            Cors(methods=("GET", "PUT"), headers=("X-A", "x-b"), exposed=("*",)),
        ),
        ({"allowCredentials": True, "maxAge": 600}, Cors(credentials=True, max_age=600)),
    ],
)
def test_cors_filters_are_read_at_both_levels(fields: Document, expected: Cors) -> None:
    rule = compiled(route(cors(**fields), on_backend=(cors(**fields),)))
    assert (rule.cors, rule.backends[0].cors) == (expected, expected)


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"allowOrigins": ["shop.example"]}, "allowOrigins[0]", "is not an origin such as"),
        ({"allowOrigins": ["ftp://shop.example"]}, "allowOrigins[0]", "is not an origin such as"),
        ({"allowOrigins": ["https://shop.example/"]}, "allowOrigins[0]", "is not an origin such as"),
        ({"allowOrigins": ["https://a*.example"]}, "allowOrigins[0]", "is not an origin such as"),
        ({"allowOrigins": ["https://a.*.example"]}, "allowOrigins[0]", "is not an origin such as"),
        ({"allowOrigins": ["https://a:99999"]}, "allowOrigins[0]", "no port that there could be"),
        ({"allowOrigins": ["*", "https://a"]}, "allowOrigins", "alongside others"),
        ({"allowMethods": ["*", "GET"]}, "allowMethods", "alongside others"),
        ({"allowHeaders": ["*", "x"]}, "allowHeaders", "alongside others"),
        ({"allowHeaders": ["a b"]}, "allowHeaders[0]", "is not a header name"),
        ({"maxAge": 0}, "maxAge", "too small"),
        ({"allowCredentials": "yes"}, "allowCredentials", "expected a boolean"),
        ({"origins": []}, "origins", "unknown field"),
    ],
)
def test_a_cors_filter_that_makes_no_sense_is_refused_at_its_field(fields: Document, field: str, words: str) -> None:
    found = some.load({"r.yaml": some.text(route(cors(**fields)))})[1]
    ((at, message),) = [(problem.field, problem.message) for problem in found.problems]
    assert at == f"spec.rules[0].filters[0].cors.{field}"
    assert words in message


def test_a_list_has_one_cors_filter() -> None:
    found = some.load({"r.yaml": some.text(route(cors(), cors()))})[1]
    assert [problem.message for problem in found.problems] == ["duplicate value: a CORS filter cannot be repeated"]


def test_a_method_of_a_later_release_rejects_its_rule() -> None:
    one = route(cors(allowMethods=["GET", "QUERY"]))
    one["spec"]["rules"].append({"backendRefs": [backend("cart", 1)], "matches": [{"path": {"value": "/x"}}]})
    snap, conditions = some.compiled(*BASE, one)
    assert some.ask(snap, "shop/web").reason == "unsupported-value"
    assert some.ask(snap, "shop/web", request=some.head("/x")).status == 0
    partly = some.condition(conditions, PARTIALLY_INVALID, "shop/r")
    assert partly.field == "spec.rules[0].filters[0].cors.allowMethods[1]"
