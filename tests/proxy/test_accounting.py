"""What is counted beside requests, in slots of the same array."""

from __future__ import annotations

import pytest

from nodeagent.kernel.abi import SERIES_LABELS
from nodeagent.proxy import accounting
from nodeagent.proxy.accounting import Accounting


def key(reason: str, caller: str = "web") -> tuple[str, ...]:
    return tuple({"source_workload": caller, "reason": reason}.get(name, "") for name in SERIES_LABELS)


def test_what_is_noted_has_a_series_of_its_own_without_bytes_or_time() -> None:
    counted = Accounting.anonymous()
    counted.count(key(""), 10, 20, 30)
    for _ in range(3):
        counted.note(key("would-deny"))
    rows = {row["reason"]: row for row in counted.rows()}
    assert (rows[""]["requests"], rows[""]["request_bytes"]) == (1, 10)
    noted = rows["would-deny"]
    assert (noted["requests"], noted["request_bytes"], noted["duration_us"]) == (3, 0, 0)
    assert set(noted["buckets"]) == {0}  # type: ignore[call-overload]


def test_past_the_last_slot_it_is_not_counted_as_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "SERIES_PER_WORKER", 2)
    counted = Accounting.anonymous()
    counted.count(key("", "web"), 0, 0, 0)
    counted.count(key("", "cart"), 0, 0, 0)
    counted.note(key("would-deny"))
    assert counted.overflowed == 2
    assert counted.rows()[0]["requests"] == 1
