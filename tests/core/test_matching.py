"""Gateway API matching and precedence, against a slow reading of its text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.matching import first_match, mismatch, path_matches, precedence, rule_matches
from nodeagent.core.model import PathKind, RequestHead, Rule, ValueMatch
from nodeagent.regex import compile_regex
from tests.core import strategies as some

ANY = Rule("shop/r", "0", PathKind.PREFIX, "/", "", (), (), ())
HEAD = RequestHead("GET", "/v2/x", "a=1&b=2&a=3", "shop", (("x-env", "test"), ("x-env", "prod")))
dated = st.lists(
    st.tuples(some.rules, st.sampled_from(("", "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"))), max_size=6
)


@pytest.mark.parametrize(
    ("value", "path", "matches"),
    [
        ("/v2", "/v2", True),
        ("/v2", "/v2/", True),
        ("/v2", "/v2/x", True),
        ("/v2", "/v2example", False),
        ("/v2/", "/v2", True),
        ("/v2/", "/v2x", False),
        ("/", "/anything", True),
        ("/", "*", True),
        ("/V2", "/v2", False),
        ("/a:b", "/a%3Ab/c", True),
    ],
)
def test_a_prefix_matches_whole_segments(value: str, path: str, matches: bool) -> None:
    assert path_matches(PathKind.PREFIX, value, path, compile_regex) is matches


def test_exact_is_exact_and_a_regex_matches_the_whole_path() -> None:
    assert path_matches(PathKind.EXACT, "/a", "/a", compile_regex)
    assert not path_matches(PathKind.EXACT, "/a", "/a/", compile_regex)
    assert path_matches(PathKind.REGEX, "/a.*", "/ab", compile_regex)
    assert not path_matches(PathKind.REGEX, "a", "/a", compile_regex)


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (ANY, ""),
        (replace(ANY, method="POST"), "method"),
        (replace(ANY, path="/v1"), "path"),
        (replace(ANY, headers=(ValueMatch("x-env", "test,prod"),)), ""),
        (replace(ANY, headers=(ValueMatch("x-env", "test"),)), "header x-env"),
        (replace(ANY, headers=(ValueMatch("x-env", "test.*", regex=True),)), ""),
        (replace(ANY, headers=(ValueMatch("x-none", ".*", regex=True),)), "header x-none"),
        (replace(ANY, query=(ValueMatch("a", "1"),)), ""),
        (replace(ANY, query=(ValueMatch("a", "3"),)), "query a"),
        (replace(ANY, query=(ValueMatch("c", ".*", regex=True),)), "query c"),
        (replace(ANY, query=(ValueMatch("b", "2"), ValueMatch("a", "2"))), "query a"),
    ],
)
def test_every_part_of_a_rule_must_match(rule: Rule, fault: str) -> None:
    assert mismatch(rule, HEAD, compile_regex) == fault


def beats(one: tuple[Rule, str, int], other: tuple[Rule, str, int]) -> bool:
    """Gateway API's tie-breakers, one after another, as its text lists them."""
    (rule, date, position), (rival, rival_date, rival_position) = one, other
    kinds = [PathKind.EXACT, PathKind.REGEX, PathKind.PREFIX]
    if rule.path_kind is not rival.path_kind:
        return kinds.index(rule.path_kind) < kinds.index(rival.path_kind)
    if len(rule.path) != len(rival.path):
        return len(rule.path) > len(rival.path)
    if bool(rule.method) != bool(rival.method):
        return bool(rule.method)
    if len(rule.headers) != len(rival.headers):
        return len(rule.headers) > len(rival.headers)
    if len(rule.query) != len(rival.query):
        return len(rule.query) > len(rival.query)
    if date != rival_date:
        return bool(date) and (not rival_date or date < rival_date)
    if rule.route != rival.route:
        return rule.route < rival.route
    return position < rival_position


@given(dated, some.heads)
def test_the_first_match_beats_every_other_match(rules: list[tuple[Rule, str]], head: RequestHead) -> None:
    entries = [(rule, date, position) for position, (rule, date) in enumerate(rules)]
    ordered = sorted(entries, key=lambda entry: precedence(entry[0], entry[1], entry[2], 0))
    chosen = first_match([rule for rule, _, _ in ordered], head, compile_regex)
    matching = [entry for entry in entries if rule_matches(entry[0], head, compile_regex)]
    best = [entry for entry in matching if all(entry is other or beats(entry, other) for other in matching)]
    assert chosen == (best[0][0] if best else None)
    assert len(best) == (1 if matching else 0)
