"""Prints the table of results at the end of a run."""

from __future__ import annotations

import pytest

from tests.conformance.report import NOT_YET, PASSED, table

WORDS = {"passed": PASSED, "xfailed": NOT_YET, "failed": "FAILED", "error": "ERROR"}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    results: dict[str, str] = {}
    for outcome, word in WORDS.items():
        for report in terminalreporter.stats.get(outcome, ()):
            test = report.nodeid.partition("::test_conformance[")[2].rstrip("]")
            if test:
                results[test] = word
    if results:
        terminalreporter.section("conformance with Gateway API, mesh")
        for line in table(results):
            terminalreporter.write_line(line)
