from __future__ import annotations

import pytest

from nodeagent.core.canary import Fate, problem


def test_only_an_answer_by_a_worker_is_no_problem() -> None:
    assert [fate for fate in Fate if not problem(fate)] == [Fate.ANSWERED]


@pytest.mark.parametrize(
    ("fate", "word"),
    [
        (Fate.SILENT, "no worker answers"),
        (Fate.REFUSED, "find no worker"),
        (Fate.PASSED, "do not act on this agent's maps"),
        (Fate.BLOCKED, "another program"),
    ],
)
def test_each_fate_says_what_is_wrong(fate: Fate, word: str) -> None:
    assert word in problem(fate)
    assert len({problem(one) for one in Fate}) == len(Fate)
