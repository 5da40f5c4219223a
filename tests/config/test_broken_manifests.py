"""As tests/acceptance does with an agent: one line for each broken manifest, and the rest stays in force."""

from __future__ import annotations

import pytest

from nodeagent.config.compile import compile as compile_objects
from tests.acceptance.manifests_broken import BROKEN, BrokenManifest
from tests.config import builders as some
from tests.testbed import manifests

REST = {
    "shop.yaml": some.text(
        *some.callers(),
        *some.service("cart"),
        manifests.http_route("shop", "cart", "cart", [{"backendRefs": [manifests.backend("cart", 1)]}]),
        some.policy("no-delete", "DENY", [{"http": {"methods": ["DELETE"]}}]),
    )
}


def test_the_table_holds_thirty_files_of_different_names() -> None:
    assert len({one.file for one in BROKEN}) == len(BROKEN) >= 30


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_each_gives_one_line_that_names_file_document_field_and_fault(broken: BrokenManifest) -> None:
    found = some.load({**REST, broken.file: broken.content})[1].problems
    assert len(found) == 1, [str(problem) for problem in found]
    (problem,) = found
    assert (problem.file, problem.document) == (broken.file, broken.document)
    assert broken.field in problem.field
    assert bool(broken.field) == bool(problem.field)
    line = str(problem)
    assert "\n" not in line
    for part in (broken.file, problem.field, *broken.words):
        assert part in line
    if broken.document:
        assert f"(document {broken.document})" in line


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_the_rest_of_the_configuration_stays_in_force(broken: BrokenManifest) -> None:
    good, before = some.load(REST)
    after = some.load({**REST, broken.file: broken.content}, good)[1]
    assert compile_objects(after, 1)[0] == compile_objects(before, 1)[0]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_file_that_breaks_keeps_what_it_defined(broken: BrokenManifest) -> None:
    """Not for what can be read whole: there, an object left out is an object deleted."""
    good, _ = some.load({**REST, broken.file: some.text(manifests.namespace("kept"))})
    file = some.read(broken.file, broken.content)
    after = some.load({**REST, broken.file: broken.content}, good)[1]
    assert ("kept" in after.namespaces) is file.incomplete
    assert file.incomplete is (not file.entries or broken.name == "yaml-second")
