"""What a pod's connect() gets before its namespace is classified, which a moment after its start it may not be."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from nodeagent.core.model import FailMode, Workload


class Unclassified(enum.Enum):
    """`run --unclassified`.  BY_FAIL_MODE: refuse while an enrolled pod of this node has the fail mode Closed."""

    DIRECT = "direct"
    REFUSE = "refuse"
    BY_FAIL_MODE = "fail-mode"


class Refusals(NamedTuple):
    """Whether it is refused; `away`: while no worker lives, so that nobody may be there to classify."""

    refuse: bool
    away: bool


def refusals(wish: Unclassified, workloads: Iterable[Workload]) -> Refusals:
    """Whose it is, is not known, so its own namespace's fail mode is not either: one that is Closed decides for all.

    Away, only the fail mode can be asked: a pod that nobody will ever classify would be cut off for good.
    """
    if wish is Unclassified.DIRECT:
        return Refusals(refuse=False, away=False)
    closed = any(pod.enrolled and pod.is_here and pod.fail_mode is FailMode.CLOSED for pod in workloads)
    return Refusals(refuse=closed or wish is Unclassified.REFUSE, away=closed)
