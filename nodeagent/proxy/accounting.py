"""Request counters in slots of a shared array (struct na_series of bpf/abi.h), one writer: this worker.

A slot belongs to one set of labels for as long as the array lives, so a restarted worker continues where the
last one stopped.  When all slots are taken, further series are added up in slot 0.
"""

from __future__ import annotations

import ctypes
import json
import mmap

from nodeagent.core.buckets import BUCKETS, bucket_index
from nodeagent.kernel.abi import SERIES_LABELS, SERIES_PER_WORKER, Series

Key = tuple[str, ...]
"""Values of SERIES_LABELS, in that order."""

OVERFLOW = 0
SERIES_BYTES: int = ctypes.sizeof(Series)
LABELS_AT: int = Series.labels.offset
LABELS_BYTES: int = Series.labels.size
_WORDS = SERIES_BYTES // 8
_REQUESTS, _IN, _OUT, _DURATION, _BUCKETS = 1, 2, 3, 4, 5


class Accounting:
    """`memory` is the mapped array, SERIES_PER_WORKER slots of SERIES_BYTES."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._bytes = memoryview(memory)
        self._words = self._bytes.cast("Q")
        self._slots: dict[Key, int] = {}
        self.overflowed = 0
        self._next = self._resume()

    @classmethod
    def anonymous(cls) -> Accounting:
        """For tests and benches: nobody else reads it."""
        return cls(mmap.mmap(-1, SERIES_PER_WORKER * SERIES_BYTES))

    def _resume(self) -> int:
        """Learn the labels of used slots; the first free one."""
        for slot in range(1, SERIES_PER_WORKER):
            if not self._words[slot * _WORDS]:
                return slot
            self._slots[_decode(self._label_bytes(slot))] = slot * _WORDS
        return SERIES_PER_WORKER

    def _label_bytes(self, slot: int) -> bytes:
        start = slot * SERIES_BYTES + LABELS_AT
        return bytes(self._bytes[start : start + LABELS_BYTES]).partition(b"\0")[0]

    def count(self, key: Key, request_bytes: int, response_bytes: int, duration_us: int) -> None:
        known = self._slots.get(key)
        base = self._claim(key) if known is None else known
        words = self._words
        words[base + _REQUESTS] += 1
        words[base + _IN] += request_bytes
        words[base + _OUT] += response_bytes
        words[base + _DURATION] += duration_us
        words[base + _BUCKETS + bucket_index(duration_us)] += 1

    def note(self, key: Key) -> None:
        """Count something beside a request.  Past the last slot only `overflowed` tells: slot 0 is for requests."""
        known = self._slots.get(key)
        base = self._claim(key) if known is None else known
        if base != OVERFLOW:
            self._words[base + _REQUESTS] += 1

    def _claim(self, key: Key) -> int:
        slot = self._next
        labels = _encode(key)
        if slot == SERIES_PER_WORKER or labels is None:
            self.overflowed += 1
            self._words[OVERFLOW] = 1
            return OVERFLOW
        self._next += 1
        start = slot * SERIES_BYTES + LABELS_AT
        self._bytes[start : start + len(labels)] = labels
        self._words[slot * _WORDS] = 1  # last: a reader that sees it sees the labels
        self._slots[key] = slot * _WORDS
        return self._slots[key]

    @property
    def used(self) -> int:
        return self._next - 1

    def rows(self) -> list[dict[str, object]]:
        """Every used series with its labels (tests, `observe`)."""
        return [self._row(slot) for slot in range(self._next) if self._words[slot * _WORDS]]

    def _row(self, slot: int) -> dict[str, object]:
        words = self._words[slot * _WORDS : slot * _WORDS + _BUCKETS + BUCKETS].tolist()
        text = self._label_bytes(slot)
        labels = dict(zip(SERIES_LABELS, json.loads(text), strict=True)) if text else {}
        return {
            **labels,
            "requests": words[_REQUESTS],
            "request_bytes": words[_IN],
            "response_bytes": words[_OUT],
            "duration_us": words[_DURATION],
            "buckets": words[_BUCKETS:],
        }


def _encode(key: Key) -> bytes | None:
    """NUL-terminated JSON, or None when it does not fit a slot."""
    text = json.dumps(key, separators=(",", ":"), ensure_ascii=False).encode() + b"\0"
    return text if len(text) <= LABELS_BYTES else None


def _decode(text: bytes) -> Key:
    return tuple(json.loads(text))
