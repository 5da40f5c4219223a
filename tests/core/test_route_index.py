"""The index finds what trying every rule in order finds, and looks at few of them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.core import route_index
from nodeagent.core.judge import Judge
from nodeagent.core.matching import (
    first_match,
    header_value,
    header_values,
    precedence,
    query_value,
    query_values,
)
from nodeagent.core.model import (
    Backend,
    Destination,
    Endpoint,
    PathKind,
    Protocol,
    RequestHead,
    Rule,
    ValueMatch,
    Workload,
)
from nodeagent.core.route_index import RouteIndex, RuleWalk
from nodeagent.regex import compile_regex
from tests.core import strategies as some

if TYPE_CHECKING:
    from _typeshed import TraceFunction

WEB = Workload("shop", "web-1", "web", "web", ("10.0.0.1",))


def numbered(rules: Sequence[Rule]) -> list[Rule]:
    return [dataclasses.replace(rule, rule=str(position)) for position, rule in enumerate(rules)]


def position_of(rule: Rule | None, count: int) -> int:
    return count if rule is None else int(rule.rule)


def fields(*pairs: tuple[str, str]) -> tuple[ValueMatch, ...]:
    return tuple(ValueMatch(name, value) for name, value in pairs)


def rule(
    kind: PathKind,
    path: str,
    method: str = "",
    headers: tuple[ValueMatch, ...] = (),
    query: tuple[ValueMatch, ...] = (),
) -> Rule:
    return Rule("shop/r", "0", kind, path, method, headers, query, ())


# ---- the same answer ----

crowds = some.crowded_destinations().map(lambda destination: destination.producer_rules)


@settings(max_examples=300)
@given(st.lists(some.rules, max_size=12).map(tuple) | crowds, st.lists(some.heads, min_size=1, max_size=4))
def test_walk_and_index_find_the_first_match(rules: tuple[Rule, ...], heads: list[RequestHead]) -> None:
    given_rules = numbered(rules)
    index, walk = RouteIndex(given_rules, compile_regex), RuleWalk(given_rules, compile_regex)
    for head in heads:
        wanted = position_of(first_match(given_rules, head, compile_regex), len(given_rules))
        assert (index.find(head), walk.find(head)) == (wanted, wanted)


@settings(max_examples=200)
@given(crowds, some.heads, st.integers(1, 20))
def test_the_index_is_right_while_it_is_being_built(rules: tuple[Rule, ...], head: RequestHead, portion: int) -> None:
    given_rules = numbered(rules)
    wanted = position_of(first_match(given_rules, head, compile_regex), len(given_rules))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(route_index, "_PORTION", portion)
        index = RouteIndex(given_rules, compile_regex)
        for _ in range(len(given_rules) + 1):
            assert index.find(head) == wanted
    assert index._built == len(given_rules)


prefixes = st.lists(st.sampled_from(("a", "b", "ab", "")), max_size=5).map(lambda names: "/" + "/".join(names))


@settings(max_examples=300)
@given(st.lists(prefixes, min_size=9, max_size=20), st.lists(prefixes, min_size=1, max_size=5))
def test_prefixes_match_whole_segments_at_any_depth(values: list[str], paths: list[str]) -> None:
    rules = numbered([rule(PathKind.PREFIX, value) for value in values])
    index = RouteIndex(rules, compile_regex)
    for path in paths:
        head = RequestHead("GET", path, "", "a", ())
        assert index.find(head) == position_of(first_match(rules, head, compile_regex), len(rules))


@given(some.headers, st.lists(st.sampled_from(("q", "%71", "q+r", "", "=", "&", "q=1", "=2", "%FF", "+")), max_size=8))
def test_all_values_at_once_are_what_each_is_alone(headers: tuple[tuple[str, str], ...], parts: list[str]) -> None:
    known = header_values(headers)
    assert {name: header_value(headers, name) for name in (*known, "absent")} == {"absent": None, **known}
    query = "".join(parts)
    parameters = query_values(query)
    for name in (*parameters, "q", "q r", "", "absent"):
        assert parameters.get(name) == query_value(query, name)


# ---- at a steady cost ----


def lines_run(work: Callable[[], object]) -> int:
    """Lines of Python that run in nodeagent: a measure of work that no other process disturbs."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: object) -> TraceFunction | None:
        nonlocal count
        if "nodeagent" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def routed(rules: Sequence[Rule]) -> Destination:
    backend = Backend("shop/b:80", 1, (Endpoint("10.0.0.9", 8080),))
    whole = [dataclasses.replace(one, backends=(backend,), rule=str(number)) for number, one in enumerate(rules)]
    whole.sort(key=lambda one: precedence(one, "", 0, int(one.rule)))
    return Destination(
        "shop/a:80",
        "198.18.0.1",
        80,
        Protocol.HTTP1,
        is_frontend=True,
        producer_rules=tuple(whole),
        has_producer_route=True,
    )


def most_lines(rules: Sequence[Rule], heads: Sequence[RequestHead]) -> int:
    """Of the costliest decision, once the index is built and choosers are prepared."""
    judge = Judge(routed(rules), compile_regex)

    def decide(head: RequestHead) -> object:
        return judge.decide(WEB, "10.0.0.1", head, 0.0)

    for _ in range(100):
        for head in heads:
            decide(head)
    return max(lines_run(partial(decide, head)) for head in heads)


def get(path: str, *headers: tuple[str, str], query: str = "") -> RequestHead:
    return RequestHead("GET", path, query, "a", (("host", "a"), ("accept", "*/*"), *headers))


def mixed(number: int) -> Rule:
    kinds = (
        rule(PathKind.EXACT, f"/items/{number}"),
        rule(PathKind.PREFIX, f"/services/{number}"),
        rule(PathKind.PREFIX, "/", "", fields(("x-tenant", str(number)))),
    )
    return kinds[number % 3]


CROWDS: dict[str, tuple[Callable[[int], Rule], Callable[[int], RequestHead]]] = {
    "mixed": (
        mixed,
        lambda n: (get(f"/items/{n}"), get(f"/services/{n}/x"), get("/other", ("x-tenant", str(n))))[n % 3],
    ),
    "one path, one value each": (
        lambda n: rule(PathKind.PREFIX, "/", "", fields(("x-user", str(n)))),
        lambda n: get("/a", ("x-user", str(n))),
    ),
    "one path, one name each": (
        lambda n: rule(PathKind.PREFIX, "/", "", fields((f"x-{n}", "1"))),
        lambda n: get("/a", (f"x-{n}", "1")),
    ),
    "one path, two values each, one in common": (
        lambda n: rule(PathKind.PREFIX, "/", "GET", fields(("x-env", "prod"), ("x-user", str(n)))),
        lambda n: get("/a", ("x-env", "prod"), ("x-user", str(n))),
    ),
    "one path, one query parameter each": (
        lambda n: rule(PathKind.EXACT, "/a", "", (), fields(("id", str(n)))),
        lambda n: get("/a", query=f"x=1&id={n}"),
    ),
    "one path, one pattern and one value each": (
        lambda n: rule(PathKind.REGEX, "/u/.*", "", fields(("x-user", str(n)))),
        lambda n: get("/u/1", ("x-user", str(n))),
    ),
}


@pytest.mark.parametrize("crowd", CROWDS)
def test_a_decision_among_thousands_of_rules_takes_no_more_steps_than_among_ten(crowd: str) -> None:
    make, ask = CROWDS[crowd]
    few, many = 10, 3000
    nothing = get("/nowhere/at/all", ("x-user", "nobody"))
    costs = [
        most_lines([make(n) for n in range(count)], [*(ask(n) for n in (0, 1, 2, count // 2, count - 1)), nothing])
        for count in (few, many)
    ]
    assert costs[1] <= 1.05 * costs[0], costs


def test_a_path_is_followed_no_deeper_than_the_rules_go() -> None:
    shallow = [rule(PathKind.PREFIX, f"/a/{number}") for number in range(20)]
    costs = [most_lines(shallow, [get("/a" * depth)]) for depth in (3, 20_000)]
    assert costs[0] == costs[1]


def test_building_is_spread_over_the_first_decisions() -> None:
    rules = [rule(PathKind.PREFIX, "/", "", fields(("x-user", str(number)), ("x-env", "a"))) for number in range(9000)]
    index = RouteIndex(rules, compile_regex)
    built: list[int] = []
    while not built or built[-1] < len(rules):
        index.find(get("/a", ("x-user", "0"), ("x-env", "a")))
        built.append(index._built)
    steps = [after - before for before, after in zip([0, *built], built, strict=False)]
    assert len(steps) > 3
    assert max(steps) <= route_index._PORTION // 3
