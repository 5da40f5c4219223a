"""Strict field validation: each violation once, at its path, in words that say what was expected."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config.acceptance import unsupported
from nodeagent.config.problems import field_text
from nodeagent.config.schema import (
    MAX_ERRORS,
    Anything,
    Fields,
    Items,
    Number,
    Schema,
    Table,
    Text,
    Truth,
    Whole,
    violations,
)
from nodeagent.config.schemas import SCHEMAS
from nodeagent.config.schemas.authorization import cidr_fault
from nodeagent.config.schemas.common import address_fault, path_fault, time_fault
from nodeagent.config.schemas.core import TARGET_PORT
from nodeagent.config.schemas.http_matches import HTTP
from nodeagent.core.paths import PathError, normalize
from nodeagent.regex import MAX_PATTERN

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("spec", "metadata", "name", "rules", "ports", "x")), inner, max_size=4)
    ),
)


@pytest.mark.parametrize(
    ("schema", "value", "said"),
    [
        (Text(), 1, "expected a string, got integer 1"),
        (Text(), True, "expected a string, got boolean True"),
        (Text(), None, "expected a string, got null"),
        (Text(enum=("A", "B")), "C", "unsupported value 'C': expected one of A, B"),
        (Text(most=2), "abc", "is 3 characters long; at most 2 are allowed"),
        (Text(least=1), "", "is 0 characters long; at least 1 must be given"),
        (Text(pattern="a+", shape="some a"), "ab", "'ab' is not some a"),
        (Text(pattern="a+"), "a\n", "is not text that matches a+"),
        (Whole(1, 9), 0, "0 is too small; expected 1 or more"),
        (Whole(1, 9), 10, "10 is too large; expected 9 or less"),
        (Whole(), True, "expected an integer, got boolean True"),
        (Whole(), 1.0, "expected an integer, got number 1.0"),
        (Number(0, 100), 100.5, "100.5 is out of range: expected 0 to 100"),
        (Number(0, 100), float("nan"), "nan is out of range"),
        (Number(0, 100), True, "expected a number, got boolean True"),
        (Number(0, 100), "5", "expected a number, got string '5'"),
        (Truth(), "true", "expected a boolean, got string 'true'"),
        (TARGET_PORT, 0, "too small"),
        (TARGET_PORT, "Not A Port", "not a port name"),
        (Items(Text()), {}, "expected a list, got an object"),
        (Items(Text(), most=1), ["a", "b"], "has 2 items; at most 1 are allowed"),
        (Items(Text(), least=1), [], "has 0 items; at least 1 must be given"),
        (Items(Fields({"n": Text()}), unique=("n",)), [{"n": "a"}, {"n": "a"}], "duplicate value: n 'a'"),
        (Table(Text()), [], "expected an object, got a list"),
        (Fields({"name": Text()}), {"nmae": "x"}, 'unknown field; did you mean "name"?'),
        (Fields({"name": Text()}), {"zzz": 1}, "unknown field"),
        (Fields({"name": Text()}, ("name",)), {"name": None}, "required value is missing"),
    ],
)
def test_a_violation_says_what_was_expected(schema: Schema, value: object, said: str) -> None:
    (error,) = violations(schema, value)
    assert said in error.message


def test_null_is_an_absent_field_and_open_ended_objects_may_have_more() -> None:
    assert not violations(Fields({"name": Text()}), {"name": None})
    assert not violations(Fields({}, open_ended=True), {"more": 1})
    assert not violations(Anything(), object())


def test_the_number_of_violations_of_one_object_is_bounded() -> None:
    assert len(violations(Items(Text()), [1] * 1000)) == MAX_ERRORS


def test_paths_are_written_as_the_api_server_writes_them() -> None:
    assert field_text(("spec", "rules", 0, "name")) == "spec.rules[0].name"
    assert field_text(("metadata", "labels", "a.b/c")) == 'metadata.labels["a.b/c"]'


@given(st.sampled_from(list(SCHEMAS)), anything)
def test_no_value_crashes_a_schema(kind: tuple[str, str], value: Any) -> None:
    found = violations(SCHEMAS[kind], value)
    assert found or isinstance(value, dict)
    if not found:
        unsupported(kind[1], value)


@given(st.text("0123456789abcdef:./%", max_size=20) | st.ip_addresses().map(str))
def test_an_accepted_cidr_is_one_that_requests_can_be_judged_by(text: str) -> None:
    if cidr_fault(text) == "":
        assert str(ipaddress.ip_network(text)).partition("/")[0] == str(ipaddress.ip_network(text).network_address)
        assert text.partition("/")[2].isdecimal()


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10/8",
        "10.0.0.0/255.0.0.0",
        "fe80::%1/64",
        "::ffff:10.0.0.0/104",
    ],
)
def test_what_is_no_cidr_block_is_refused(text: str) -> None:
    assert cidr_fault(text)


@pytest.mark.parametrize("text", ["010.0.0.1", "1.2.3", "fe80::1%eth0", "::1/128", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    assert address_fault(text)


@given(
    st.datetimes().map(lambda time: time.isoformat(timespec="seconds")),
    st.sampled_from(("Z", "+14:00", "-12:00", "+24:60")),
)
def test_an_accepted_time_is_a_time_in_utc(time: str, zone: str) -> None:
    if time_fault(time + zone) == "":
        assert datetime.fromisoformat(time + zone).astimezone(UTC).tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00+14:00", "2026-02-30T00:00:00Z", "2026-01-01", "2026-01-01 00:00:00Z", "now"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    assert time_fault(text)


@given(st.text("/.ab%2Ff;#é", max_size=10))
def test_an_accepted_plain_path_has_a_normal_form_or_is_told_why_not(value: str) -> None:
    spec = {"rules": [{"matches": [{"path": {"type": "Exact", "value": value}}]}]}
    if path_fault(value):
        return
    try:
        normalize(value)
    except PathError:
        assert unsupported("HTTPRoute", {"spec": spec})
    else:
        assert not unsupported("HTTPRoute", {"spec": spec})


@pytest.mark.parametrize(
    ("pattern", "accepted"),
    [
        ("/a.*", True),
        ("a" * MAX_PATTERN, True),
        ("a" * (MAX_PATTERN + 1), False),
        (r"(a)\1", False),
        ("(?=a)", False),
        ("(", False),
        ("(a{1000}){1000}", False),
        ("(a+)+$", True),
    ],
)
def test_a_pattern_is_one_that_re2_runs_in_linear_time(pattern: str, accepted: bool) -> None:
    item = {"name": "x", "type": "RegularExpression", "value": pattern}
    errors = violations(HTTP, {"headers": [item]})
    assert (not errors) is accepted
    assert all(field_text(error.path) == "headers[0].value" for error in errors)
