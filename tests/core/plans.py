"""`plan` as a function from tables to tables, for who wants to have both."""

from __future__ import annotations

import copy
from collections.abc import Collection

from nodeagent.core.kernel_plan import Plan, Tables, Target, plan
from nodeagent.core.kernel_state import Desired


def planned(before: Tables, desired: Desired, left: Collection[Target] | None = None) -> tuple[Plan, Tables]:
    """The writes, and what the maps hold after them."""
    after = copy.deepcopy(before)
    return plan(after, desired, left), after
