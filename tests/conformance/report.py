"""The table of results, and what they say about features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tests.conformance.features import BESIDE, CORE, EXTENDED, GRPC, level
from tests.conformance.suite import TESTS, Test

NOT_YET, PASSED = "not yet", "passed"


def table(results: Mapping[str, str]) -> Iterator[str]:
    """Lines for a terminal.  `results`: short name -> passed, not yet (an expected failure), FAILED or what it was."""
    yield from _columns(
        ("test", "needs", "result"),
        [(test.name, ", ".join(("Mesh", *test.features)), results.get(test.name, "not run")) for test in TESTS],
    )
    yield ""
    yield from _columns(
        ("feature", "level", "result"),
        [(name, level(name), _of_feature(name, results)) for name in (*CORE, *EXTENDED, *BESIDE, GRPC)],
    )
    yield ""
    yield summary(results)


def summary(results: Mapping[str, str]) -> str:
    http = [test for test in TESTS if not test.is_grpc]
    core = [test for test in TESTS if test.is_core]
    extended = [name for name in EXTENDED if _of_feature(name, results) == PASSED]
    files = {test.source for test in TESTS}
    passing = {source for source in files if all(_is(test, results) for test in TESTS if test.source == source)}
    not_yet = [test for test in TESTS if _is(test, results, NOT_YET)]
    return (
        f"{_count(TESTS, results)} tests ({len(passing)} of {len(files)} of the upstream's files): "
        f"{_count(http, results)} HTTP tests, {_count(core, results)} core, "
        f"{len(extended)} of {len(EXTENDED)} extended features; {len(not_yet)} gRPC not yet"
    )


def _count(tests: Sequence[Test], results: Mapping[str, str]) -> str:
    return f"{sum(_is(test, results) for test in tests)} of {len(tests)}"


def _is(test: Test, results: Mapping[str, str], result: str = PASSED) -> bool:
    return results.get(test.name) == result


def _of_feature(name: str, results: Mapping[str, str]) -> str:
    """passed when every test that needs it passed; else the first other result."""
    needing = [test for test in TESTS if name == "Mesh" or name in test.features]
    if name in CORE:
        needing = [test for test in needing if test.is_core]
    found = [results.get(test.name, "not run") for test in needing]
    return next((result for result in found if result != PASSED), PASSED)


def _columns(head: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(2)]
    for row in (head, *rows):
        yield f"{row[0]:<{widths[0]}} | {row[1]:<{widths[1]}} | {row[2]}"
