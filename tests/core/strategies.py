"""Small alphabets, so that random rules and random requests meet often."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from hypothesis import strategies as st

from nodeagent.core.cors import Cors
from nodeagent.core.filters import NO_FILTERS, Filters, PathChange, Redirect, Rewrite, header_change
from nodeagent.core.matching import precedence
from nodeagent.core.model import (
    Action,
    Backend,
    Destination,
    Endpoint,
    EnforcementLevel,
    Fault,
    HttpOperation,
    PathKind,
    Policy,
    PolicyRule,
    Protocol,
    RequestHead,
    Rule,
    Source,
    ValueMatch,
    Workload,
)
from nodeagent.core.route_index import FEW_RULES
from nodeagent.core.route_timeouts import RouteTimeouts
from nodeagent.core.traffic import Retry, SessionPersistence

PATHS = ("/", "/a", "/a/b", "/ab", "/a/", "/a%20b", "/a:b", "/a%3Ab", "/a;x", "/A", "*", "/x/../a", "/a%2Fb")
RULE_PATHS = ("/", "/a", "/a/b", "/ab", "/a:b", "/a%20b")
PATTERNS = ("/a.*", ".*", "/[^:]*", "/a/b")
NAMESPACES = ("shop", "batch")
ADDRESSES = ("10.0.0.1", "192.0.2.7", "fd00::1")
METHODS = ("GET", "POST", "DELETE", "OPTIONS")

T = TypeVar("T")


def small(items: st.SearchStrategy[T], most: int = 2) -> st.SearchStrategy[tuple[T, ...]]:
    """A tuple of at most `most` items."""
    return st.lists(items, max_size=most).map(tuple)


endpoints = st.builds(Endpoint, st.sampled_from(ADDRESSES), st.sampled_from((8080, 8081)))
header_matches = st.builds(
    ValueMatch,
    st.sampled_from(("x-env", "x-team")),
    st.sampled_from(("test", "prod", "t.*", "caf\u00e9")),
    st.booleans(),
)
exact_header_matches = st.builds(ValueMatch, st.sampled_from(("x-env", "x-team")), st.sampled_from(("test", "prod")))
query_matches = st.builds(ValueMatch, st.sampled_from(("q", "r")), st.sampled_from(("1", "2", ".*")), st.booleans())
path_tests = st.one_of(
    st.tuples(st.sampled_from((PathKind.EXACT, PathKind.PREFIX)), st.sampled_from(RULE_PATHS)),
    st.tuples(st.just(PathKind.REGEX), st.sampled_from(PATTERNS)),
)
sources = st.builds(
    Source,
    small(st.sampled_from(("shop/web", "shop/*", "batch/web")), 1),
    small(st.sampled_from(NAMESPACES), 1),
    small(st.sampled_from(("10.0.0.0/8", "fd00::/16", "192.0.2.7/32")), 1),
)
operations = st.builds(
    HttpOperation,
    small(st.sampled_from(METHODS)),
    small(path_tests),
    small(st.sampled_from(("payments", "*.shop"))),
    small(header_matches, 1),
)
policy_rules = st.builds(PolicyRule, small(sources), small(st.sampled_from((80, 8080, 9)), 1), small(operations))
policies = st.builds(
    lambda name, action, level, rules, dry_run: Policy(
        name, action, level, rules, dry_run=dry_run and action is not Action.AUDIT
    ),
    st.sampled_from(("shop/p1", "shop/p2", "shop/p3")),
    st.sampled_from(Action),
    st.sampled_from(EnforcementLevel),
    small(policy_rules),
    st.booleans(),
)
policy_sets = st.lists(policies, max_size=3, unique_by=lambda policy: policy.name).map(tuple)
port_numbers = st.sampled_from(((), (80, 8080)))
refusals = st.sampled_from(("", "", "", "policy shop/broken is broken"))
field_names = st.sampled_from(("x-env", "X-Env", "x-team", "Via", "set-cookie"))
field_pairs = st.tuples(field_names, st.sampled_from(("1", "a, b", "caf\u00e9")))
header_changes = st.builds(header_change, small(field_pairs), small(field_pairs), small(field_names))
path_changes = st.builds(
    PathChange, st.sampled_from(("/x", "/x/y", "/", "")), st.sampled_from((None, "/", "/a", "/a/b"))
)
redirects = st.builds(
    Redirect,
    st.sampled_from((301, 302, 303, 307, 308)),
    st.sampled_from(("", "http", "https")),
    st.sampled_from(("", "shop.example")),
    st.sampled_from((0, 80, 443, 8443)),
    st.none() | path_changes,
)
rewrites = st.builds(Rewrite, st.sampled_from(("", "inner.example")), st.none() | path_changes)
backend_filters = st.just(NO_FILTERS) | st.builds(
    Filters, st.none() | header_changes, st.none() | header_changes, st.none(), st.none() | rewrites
)
rule_filters = st.just(NO_FILTERS) | st.builds(
    Filters,
    st.none() | header_changes,
    st.none() | header_changes,
    st.sampled_from((True, False, False)).flatmap(lambda yes: redirects if yes else st.none()),
    st.none() | rewrites,
)
cors = st.none() | st.builds(
    Cors,
    st.sampled_from(((), (("https", "*.shop", 443),))),
    st.booleans(),
    st.sampled_from(((), ("PUT",), ("*",))),
    st.sampled_from(((), ("x-a",), ("*",))),
    st.just(("x-b",)),
    st.booleans(),
)
rule_timeouts = st.none() | st.builds(RouteTimeouts, st.sampled_from((0, 1000)), st.sampled_from((0, 500)))
backends = st.builds(
    Backend,
    st.sampled_from(("shop/a:80", "shop/b:80")),
    st.sampled_from((0, 1, 3)),
    st.lists(endpoints, max_size=3).map(tuple),
    st.sampled_from(("", "", "BackendNotFound")),
    policy_sets,
    port_numbers,
    refusals,
    backend_filters,
)
rules = st.builds(
    lambda route, rule, path, method, headers, query, where, filters, timeouts, fault, more: Rule(
        route, rule, path[0], path[1], method, headers, query, where, filters, timeouts, fault=fault, **more
    ),
    st.sampled_from(("shop/r1", "shop/r2", "batch/r1")),
    st.sampled_from(("0", "1")),
    path_tests,
    st.sampled_from(("", "", "GET", "POST")),
    small(header_matches),
    small(query_matches),
    small(backends, 3),
    rule_filters,
    rule_timeouts,
    st.sampled_from((None, None, Fault("filter-not-found", "filters[0]"))),
    st.sampled_from(({}, {"retry": Retry(2)}, {"session": SessionPersistence("s")})) | st.builds(dict, cors=cors),
)
workloads = st.builds(
    Workload,
    st.sampled_from(NAMESPACES),
    st.just("web-1"),
    st.sampled_from(("web", "cart")),
    st.just("web"),
    small(st.sampled_from(ADDRESSES)),
)
destinations = st.builds(
    Destination,
    name=st.just("shop/a:80"),
    address=st.sampled_from(ADDRESSES),
    port=st.just(80),
    protocol=st.sampled_from((Protocol.HTTP1, Protocol.OPAQUE)),
    is_frontend=st.booleans(),
    endpoints=small(endpoints, 3),
    producer_rules=small(rules, 4),
    consumer_rules=st.dictionaries(st.sampled_from(NAMESPACES), small(rules), max_size=1),
    has_producer_route=st.booleans(),
    policies=policy_sets,
    ports=port_numbers,
    refuse=refusals,
)


@st.composite
def routed_destinations(draw: st.DrawFn) -> Destination:
    """Every request is routed; frontend and backends take their policies from one handful, as Services do."""
    handful = draw(st.lists(policies, min_size=1, max_size=3, unique_by=lambda policy: policy.name))
    some_of_them = st.lists(st.sampled_from(handful), unique_by=lambda policy: policy.name).map(tuple)
    backend = st.builds(
        Backend,
        st.sampled_from(("shop/a:80", "shop/b:80")),
        st.just(1),
        st.lists(endpoints, max_size=1).map(tuple),
        policies=some_of_them,
        ports=port_numbers,
        filters=backend_filters,
        cors=cors,
    )
    behind = draw(st.lists(backend, min_size=1, max_size=2).map(tuple))
    filters, timeouts = draw(rule_filters), draw(rule_timeouts)
    rule = Rule("shop/r1", "0", PathKind.PREFIX, "/", "", (), (), behind, filters, timeouts, cors=draw(cors))
    return Destination(
        "shop/a:80",
        draw(st.sampled_from(ADDRESSES)),
        80,
        Protocol.HTTP1,
        is_frontend=True,
        producer_rules=(rule,),
        has_producer_route=True,
        policies=draw(some_of_them),
        ports=draw(port_numbers),
    )


@st.composite
def crowded_destinations(draw: st.DrawFn) -> Destination:
    """More rules than are tried one by one, many of them with the same path; in order of precedence or in none."""
    backend = Backend("shop/a:80", 1, (Endpoint("10.0.0.1", 8080),))
    bare = st.builds(
        lambda path, method, headers, query: Rule("shop/r1", "0", path[0], path[1], method, headers, query, (backend,)),
        path_tests | st.just((PathKind.PREFIX, "/")),
        st.sampled_from(("", "", "GET", "POST")),
        small(header_matches | exact_header_matches, 3),
        small(query_matches),
    )
    drawn = draw(st.lists(bare, min_size=FEW_RULES + 1, max_size=30))
    numbered = [dataclasses.replace(rule, rule=str(index)) for index, rule in enumerate(drawn)]
    if draw(st.booleans()):
        numbered.sort(key=lambda rule: precedence(rule, "", 0, int(rule.rule)))
    return Destination(
        "shop/a:80",
        "10.0.0.9",
        80,
        Protocol.HTTP1,
        is_frontend=True,
        producer_rules=tuple(numbered),
        has_producer_route=True,
    )


headers = small(
    st.tuples(
        st.sampled_from(("x-env", "x_env", "x-team", "host", "origin", "access-control-request-method")),
        st.sampled_from(("test", "prod", "prod, test", "caf\u00c3\u00a9", "caf\u00e9", "https://a.shop")),
    ),
    3,
)
heads = st.builds(
    RequestHead,
    st.sampled_from((*METHODS, "delete")),
    st.sampled_from(PATHS),
    st.sampled_from(("", "q=1", "q=2&q=1", "r=1&q=2", "q", "%71=1")),
    st.sampled_from(("payments", "a.shop", "shop", "")),
    headers,
)
randoms = st.floats(0, 1, exclude_max=True)
