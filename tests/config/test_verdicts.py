"""The tables in verdicts/ against our own validator; tests/cluster/test_crds.py asks a real API server the same."""

from __future__ import annotations

import pytest

from tests.config.verdicts import everything
from tests.config.verdicts.cases import Case
from tests.config.verdicts.ours import dropped_field, named_fields


def test_the_tables_are_as_large_as_they_have_to_be() -> None:
    names = [case.name for case in everything.CASES]
    assert len(set(names)) == len(names)
    assert len(names) >= 150
    assert sum(bool(case.at) for case in everything.CASES) >= 40


@pytest.mark.parametrize("case", everything.CASES, ids=lambda case: case.name)
def test_an_object_gets_its_verdict_and_a_refusal_names_the_field(case: Case) -> None:
    found = named_fields(case.value)
    if case.newer:
        assert not found
        assert dropped_field(case.value) == case.at
    else:
        assert bool(found) is bool(case.at), found
        assert not case.at or any(_names(field, case.at) for field in found), found


def _names(field: str, wanted: str) -> bool:
    """The field itself or one in it."""
    return field == wanted or field.startswith((f"{wanted}.", f"{wanted}["))
