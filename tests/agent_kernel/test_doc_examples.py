"""The examples of the documents do what the documents say: each is put in force in a shop, and its commands are run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.agent_kernel.docs_shop import DocsShop
from tests.doc_examples import Example, agrees, examples_of
from tests.testbed import Testbed

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
EXAMPLES = [one for page in PAGES for one in examples_of(page.name, page.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def shop() -> Iterator[DocsShop]:
    with Testbed() as bed:
        yield DocsShop(bed)


def routes_meant(example: Example) -> list[Example]:
    """The examples that define the HTTPRoutes which a policy of this one targets."""
    documents = list(yaml.safe_load_all(example.manifest))
    targets = [ref for one in documents for ref in one.get("spec", {}).get("targetRefs", ())]
    names = {ref["name"] for ref in targets if ref["kind"] == "HTTPRoute"}
    return [other for other in EXAMPLES if "kind: HTTPRoute\n" in other.manifest and _defines(other) & names]


def _defines(example: Example) -> set[str]:
    return {document["metadata"]["name"] for document in yaml.safe_load_all(example.manifest)}


@pytest.mark.parametrize(
    "example", [one for one in EXAMPLES if one.commands], ids=lambda example: f"{example.page}:{example.line}"
)
def test_an_example_does_what_its_page_says(shop: DocsShop, example: Example) -> None:
    shop.apply([example, *routes_meant(example)])
    for command in example.commands:
        printed = shop.run(command)
        assert agrees(command.expected, printed), f"{command.pod}$ {command.command}\n{printed}"
