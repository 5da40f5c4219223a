"""What is compared can differ: each kind of expectation has an answer that does not meet it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import MESH, Answer, Case, Redirect, faults
from tests.conformance.report import NOT_YET, PASSED, summary
from tests.conformance.suite import TESTS

HEADERS = [("X-Seen", "a"), ("x-seen", "b")]
ECHO: Mapping[str, Any] = {"pod": "echo-v1", "namespace": MESH, "path": "/", "headers": HEADERS}


def _answer(**echo: Any) -> Answer:
    return Answer(200, [("X-Set", "v1")], {**ECHO, **echo})


def _led(location: str, status: int = 302) -> Answer:
    return Answer(status, [("location", location)])


@pytest.mark.parametrize(
    ("case", "good", "bad"),
    [
        (Case(), _answer(), Answer(0)),
        (Case(), _answer(), Answer(200)),
        (Case(), _answer(pod="echo-v2"), _answer(namespace="other")),
        (Case(backend="echo-v1"), _answer(), _answer(pod="echo-v2")),
        (Case(status=404), Answer(404), _answer()),
        (Case("/a", seen_path="/"), _answer(), _answer(path="/a")),
        (Case(seen={"X-Seen": "a,b"}), _answer(), _answer(headers=HEADERS[:1])),
        (Case(seen={"X-Seen": "a,b"}), _answer(), _answer(headers=HEADERS[::-1])),
        (Case(unseen=("X-Gone",)), _answer(), _answer(headers=[("x-gone", "")])),
        (Case(answered={"x-set": "v1"}), _answer(), Answer(200, [], ECHO)),
        (Case(unanswered=("X-SET",)), Answer(200, [], ECHO), _answer()),
        (Case("/a", status=302, redirect=Redirect()), _led("http://echo:80/a"), _led("http://echo:8080/a")),
        (Case("/a", status=302, redirect=Redirect()), _led("http://echo/a"), _led("http://echo/b")),
        (Case("/a", status=302, redirect=Redirect()), _led("http://echo/a"), _led("http://example.org/a")),
        (Case("/a", status=302, redirect=Redirect()), _led("http://echo/a"), _led("https://echo/a")),
        (Case("/a", status=302, redirect=Redirect()), _led("http://echo/a"), _led("http://echo/a", 301)),
        (Case(status=302, redirect=Redirect("https", port=1)), _led("https://echo:1/"), _led("https://echo/")),
    ],
)
def test_an_answer_that_differs_is_found(case: Case, good: Answer, bad: Answer) -> None:
    assert faults(case, good) == []
    assert len(faults(case, bad)) >= 1


def test_what_did_not_pass_is_not_counted() -> None:
    results = {test.name: NOT_YET if test.is_grpc else PASSED for test in TESTS}
    assert summary(results) == (
        "21 of 23 tests (20 of 22 of the upstream's files): 21 of 21 HTTP tests, 7 of 7 core, "
        "9 of 9 extended features; 2 gRPC not yet"
    )
    # One of two tests in its file, and the only one of its extended feature.
    results["MeshHTTPRouteBackendRequestHeaderModifier"] = "FAILED"
    assert summary(results).startswith(
        "20 of 23 tests (19 of 22 of the upstream's files): 20 of 21 HTTP tests, 7 of 7 core, 8 of 9 extended"
    )
    assert summary({}).startswith("0 of 23 tests (0 of 22")


def test_the_page_names_every_test_with_its_result() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/conformance.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE)
    assert rows == [(test.name, NOT_YET if test.is_grpc else PASSED) for test in TESTS]
