"""Our taint goes, everybody else's stays."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.own_taint import TAINT, is_tainted, without_taint

taints = st.lists(
    st.fixed_dictionaries({"key": st.sampled_from([TAINT, "other", "a/b"]), "effect": st.sampled_from(["NoExecute"])})
)


def node(*given: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": "7"}, "spec": {"taints": list(given), **spec}}


def test_a_node_without_taints_is_not_tainted() -> None:
    assert not is_tainted({"metadata": {}})
    assert not is_tainted({"metadata": {}, "spec": {"taints": None}})


def test_the_last_taint_leaves_no_list() -> None:
    assert without_taint(node({"key": TAINT, "effect": "NoExecute"}))["spec"] == {"taints": None}


@given(taints)
def test_only_ours_is_taken_away_and_only_of_the_node_as_it_was_read(given: list[dict[str, str]]) -> None:
    patch = without_taint(node(*given))
    assert patch["metadata"] == {"resourceVersion": "7"}
    left = patch["spec"]["taints"] or []
    assert left == [taint for taint in given if taint["key"] != TAINT]
    assert is_tainted(node(*given)) == (len(left) < len(given))
