"""Changing an agent's manifests and waiting until the change decides about requests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from tests.acceptance.shop import Shop


def status(shop: Shop) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(shop.agent.admin("/v1/status")[1])
    return answer


def apply(shop: Shop, change: Callable[[], object], seconds: float = 5.0) -> None:
    """Makes a change that yields a new generation, and waits until every worker has it."""
    before = status(shop)["config"]["generation"]
    change()

    def is_in_force() -> bool:
        config = status(shop)["config"]
        return bool(config["generation"] > before and config["in_force"] >= config["generation"])

    wait_until(is_in_force, seconds, "the change of the manifests is in force")


def wait_until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Polls; AssertionError with `what` if it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds} s: {what}"
        time.sleep(0.005)
