"""The node's ledger as a worker uses it: claims by BPF_PROG_TEST_RUN on inherited descriptors, without privileges.

A call costs a microsecond: what a limit's claims look like to the kernel is made once, by `prepare`.  What the
programs do is in bpf/ledger.c and bpf/record.c; the agent's part (the dead, the unused) in `ledger_keeper`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Self

from nodeagent.core.ledger import (
    RECORD_BYTES,
    TAKEN,
    BudgetRequest,
    BudgetRetry,
    Claim,
    Prepared,
    Slot,
    Tokens,
    floor_of,
    left_in,
    slice_of,
    taking_order,
    tolerance,
    wait_of,
)
from nodeagent.kernel import abi, syscall
from nodeagent.kernel.abi import Answer, ClaimKind, LedgerOp
from nodeagent.kernel.bpf_map import Map

ATTEMPTS = 64
"""Of a claim that others were always faster than; each is four tries or more.  Then it is refused."""
COUNTS = ("ledger_full", "ledger_contended")
READ_ATTEMPTS = 1000
"""Of a record that is being written: that takes a microsecond, unless its writer lost its CPU meanwhile."""

_ATTR = struct.Struct("=IIIIQQIIIIQQ")  # of BPF_PROG_TEST_RUN, linux/bpf.h: fd, retval, .., ctx_size_in, .., ctx_in
_HEAD = struct.Struct("=IIII")
_CLAIM = struct.Struct("=QIIQQQQ")
_CALL = _ATTR.size
_CALL_BYTES = ctypes.sizeof(abi.LedgerCall)
_WORD_RETVAL = 1
_WORD_OP = _CALL // 4

_TAKE, _GIVE = int(LedgerOp.TAKE), int(LedgerOp.GIVE)  # plain numbers: the hottest words of all
_syscall = syscall.libc.syscall


def _arguments(attr: int) -> tuple[ctypes.c_long, ...]:
    """Of bpf(2), made once: converting them costs as much as the call."""
    return tuple(map(ctypes.c_long, (syscall.NUMBER, syscall.PROG_TEST_RUN, attr, _ATTR.size)))


@dataclass(frozen=True, slots=True)
class LedgerFds:
    """What a worker inherits: two programs, and maps to read."""

    ledger: int
    record: int
    slots: int
    buckets: int
    records: int
    pulse: int

    def passed(self) -> tuple[int, ...]:
        return astuple(self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `str(fds)`."""
        return cls(*map(int, text.split(",")))

    def __str__(self) -> str:
        return ",".join(map(str, self.passed()))


class KernelClaims:
    """A call that is ready to be made: the attribute of the system call and, behind it, `struct na_ledger_call`."""

    __slots__ = ("_memory", "arguments", "claims", "order", "words")

    def __init__(self, program: int, worker: int, claims: tuple[Claim, ...]) -> None:
        self.claims = claims
        self.order = taking_order(claims)
        memory = bytearray(_CALL + _CALL_BYTES)
        self._memory = (ctypes.c_char * len(memory)).from_buffer(memory)
        address = ctypes.addressof(self._memory)
        self.arguments = _arguments(address)
        _ATTR.pack_into(memory, 0, program, 0, 0, 0, 0, 0, 0, 0, _CALL_BYTES, 0, address + _CALL, 0)
        _HEAD.pack_into(memory, _CALL, 0, worker, len(claims), 0)
        for place, index in enumerate(self.order):
            _CLAIM.pack_into(memory, _CALL + _HEAD.size + place * _CLAIM.size, *_fields(claims[index]))
        self.words = memoryview(memory).cast("I")

    def run(self, op: int) -> int:
        """What the program returns (`NA_ANSWER_*` and the place of a claim); no allocation."""
        words = self.words
        words[_WORD_OP] = op
        if _syscall(*self.arguments):
            raise syscall.error(syscall.PROG_TEST_RUN, "na_ledger")
        return words[_WORD_RETVAL]


def _fields(claim: Claim) -> tuple[int, int, int, int, int, int, int]:
    """The values of `struct na_claim`."""
    match claim:
        case Slot():
            return claim.key, ClaimKind.SLOT, 0, claim.limit, 0, 0, 0
        case Tokens():
            period, leave = claim.period * claim.count, claim.period * claim.leave
            return claim.key, ClaimKind.TOKENS, 0, leave, 0, period, tolerance(claim.period, claim.burst)
        case BudgetRequest():
            return claim.key, ClaimKind.REQUEST, 0, claim.count, slice_of(claim.interval), 0, 0
        case BudgetRetry():
            return claim.key, ClaimKind.RETRY, claim.percent, 0, slice_of(claim.interval), *floor_of(claim)


class KernelLedger:
    """Implements core.ledger.Ledger.  One per process; `worker` is who holds the slots that are taken here."""

    def __init__(self, fds: LedgerFds, worker: int) -> None:
        self._fds = fds
        self._worker = worker
        self._slots = Map.from_fd(fds.slots)
        self._buckets = Map.from_fd(fds.buckets)
        self._records = Map.from_fd(fds.records)
        memory = mmap.mmap(fds.pulse, ctypes.sizeof(ctypes.c_uint64), mmap.MAP_SHARED, mmap.PROT_READ)
        self.pulse_cell: Sequence[int] = memoryview(memory).cast("Q")
        self._swap = _Swap(fds.record)
        self.full = 0
        self.contended = 0

    # ---- claims ----

    def prepare(self, claims: Sequence[Claim]) -> Prepared:
        return KernelClaims(self._fds.ledger, self._worker, tuple(claims))

    def take(self, prepared: Prepared) -> int:
        """BpfError if the kernel has no memory for the call."""
        words = prepared.words  # type: ignore[attr-defined]  # a ledger takes what it prepared; a check costs a call
        words[_WORD_OP] = _TAKE
        if _syscall(*prepared.arguments):  # type: ignore[attr-defined]  # as above; and `run` in line, for the same reason
            raise syscall.error(syscall.PROG_TEST_RUN, "na_ledger")
        code = words[_WORD_RETVAL]
        return self._refused(_ready(prepared), code) if code else TAKEN

    def _refused(self, ready: KernelClaims, code: int) -> int:
        for _ in range(ATTEMPTS):
            if code >> abi.ANSWER_SHIFT != Answer.CONTENDED or not code & abi.ANSWER_CLAIM:
                break
            code = ready.run(_TAKE)
        answer, number = code >> abi.ANSWER_SHIFT, code & abi.ANSWER_CLAIM
        self.full += answer == Answer.FULL
        self.contended += answer == Answer.CONTENDED
        return ready.order[number - 1] if number else TAKEN

    def give(self, prepared: Prepared) -> None:
        words = prepared.words  # type: ignore[attr-defined]  # as in `take`
        words[_WORD_OP] = _GIVE
        if _syscall(*prepared.arguments):  # type: ignore[attr-defined]  # as in `take`
            raise syscall.error(syscall.PROG_TEST_RUN, "na_ledger")

    # ---- questions ----

    def counts(self) -> dict[str, int]:
        """For /metrics; both since the process began."""
        return dict(zip(COUNTS, (self.full, self.contended), strict=True))

    def wait(self, tokens: Tokens) -> int:
        return wait_of(*self._bucket(tokens))

    def left(self, tokens: Tokens) -> int:
        return left_in(*self._bucket(tokens))

    def _bucket(self, tokens: Tokens) -> tuple[int, int, int, int]:
        raw = self._buckets.lookup(_u64(tokens.key))
        tat = int.from_bytes(raw or b"", sys.byteorder)
        return tat, tokens.period, tolerance(tokens.period, tokens.burst), time.monotonic_ns()

    def held(self, slot: Slot) -> int:
        raw = self._slots.lookup(_u64(slot.key))
        return abi.Slots.from_buffer_copy(raw).total if raw else 0

    # ---- records ----

    @property
    def pulse(self) -> int:
        return self.pulse_cell[0]

    def read(self, key: int) -> tuple[int, bytes]:
        """BpfError if the record is being written all the time."""
        last = -1
        for attempt in range(READ_ATTEMPTS):
            raw = self._records.lookup(_u64(key))
            if raw is None:
                return 0, b""
            record = abi.Record.from_buffer_copy(raw)
            # Twice the same even version: nobody wrote between the two, whatever the order in which bytes were copied.
            if record.begin == record.end == last:
                return last // 2, bytes(record.content)[: record.length]
            last = record.begin if record.begin == record.end and not record.begin % 2 else -1
            if attempt > 2:
                os.sched_yield()
        raise syscall.BpfError(0, f"record {key:#x} of the ledger is never whole")

    def swap(self, key: int, version: int, content: bytes) -> bool:
        if len(content) > RECORD_BYTES:
            raise ValueError(f"a record of {len(content)} bytes; it holds at most {RECORD_BYTES}")
        answer = self._swap(key, version, content)
        self.full += answer == Answer.FULL
        return answer == Answer.TAKEN


class _Swap:
    """The call of `na_record`, made once."""

    def __init__(self, program: int) -> None:
        self._call = abi.RecordSwap()
        size, place = ctypes.sizeof(self._call), ctypes.addressof(self._call)
        self._attr = ctypes.create_string_buffer(_ATTR.pack(program, 0, 0, 0, 0, 0, 0, 0, size, 0, place, 0), _CALL)
        self._arguments = _arguments(ctypes.addressof(self._attr))

    def __call__(self, key: int, version: int, content: bytes) -> int:
        self._call.key, self._call.version, self._call.length = key, version, len(content)
        ctypes.memmove(self._call.content, content.ljust(RECORD_BYTES, b"\0"), RECORD_BYTES)
        if _syscall(*self._arguments):
            raise syscall.error(syscall.PROG_TEST_RUN, "na_record")
        return int(struct.unpack_from("=I", self._attr, 4)[0])


def _ready(prepared: Prepared) -> KernelClaims:
    if not isinstance(prepared, KernelClaims):
        raise TypeError(f"{prepared!r} was prepared by another ledger")
    return prepared


def _u64(value: int) -> bytes:
    return value.to_bytes(8, sys.byteorder)
