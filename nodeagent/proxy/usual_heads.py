"""Plans of response heads that come again byte for byte, as a hot endpoint's do within a second.

Only for the usual exchange (HTTP/1.1, whole request sent, connection kept, no HEAD, no upgrade), where the plan
depends on nothing but the head.  Bounded: at most MAX_HEADS heads of MAX_HEAD bytes, about 1.5 MB.
"""

from __future__ import annotations

from nodeagent.core.response_plan import ResponsePlan

MAX_HEADS = 512
MAX_HEAD = 1024

_plans: dict[bytes, ResponsePlan] = {}

get = _plans.get


def remember(head: bytes, plan: ResponsePlan) -> None:
    """The plan must not change any more.  A head with a secret is not kept."""
    if len(head) > MAX_HEAD or b"cookie:" in head.lower():
        return
    if len(_plans) >= MAX_HEADS:
        _plans.clear()
    _plans[head] = plan
