"""The health of one backend's endpoints: what all workers of a node share of it, and its form in the ledger.

What changes it is `nodeagent.core.outlier`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from struct import Struct
from typing import NamedTuple

from nodeagent.core.ledger import RECORD_BYTES, ledger_key

NEVER = (1 << 63) - 1


class Status(enum.IntEnum):
    ADMITTED = 0
    EJECTED = 1
    PROBED = 2


class Trouble(NamedTuple):
    """Of one endpoint.  `at`: ADMITTED since, EJECTED until, PROBED: when the probe is given up (and its name)."""

    status: Status = Status.ADMITTED
    at: int = 0
    ejections: int = 0
    server_errors: int = 0  # consecutive, as the next two
    gateway_errors: int = 0
    local_failures: int = 0


@dataclass(frozen=True, slots=True)
class Health:
    """`troubled`: by `endpoint_key`, the last changed last; not to be changed.  `evaluated`: success rates, when."""

    evaluated: int = 0
    troubled: Mapping[int, Trouble] = field(default_factory=dict)


class Barred(NamedTuple):
    """What pickers need to know, and how long they may go by it."""

    endpoints: frozenset[int]  # get nothing
    due: frozenset[int]  # get one request, of whoever succeeds with `take_probe`
    until: int  # ns; NEVER = until the state changes


HEALTHY = Health()
NO_TROUBLE = Trouble()


def endpoint_key(address: str, port: int) -> int:
    return ledger_key("endpoint", f"{address}:{port}")


def out(state: Health) -> set[int]:
    """Endpoints that get nothing, or one request."""
    return {key for key, one in state.troubled.items() if one.status is not Status.ADMITTED}


def barred(state: Health, now: int) -> Barred:
    waiting = {key: one for key, one in state.troubled.items() if one.status is not Status.ADMITTED}
    due = frozenset(key for key, one in waiting.items() if now >= one.at)
    until = min((one.at for key, one in waiting.items() if key not in due), default=NEVER)
    return Barred(frozenset(waiting) - due, due, until)


def changed(state: Health, endpoint: int, trouble: Trouble) -> Health:
    others = {key: one for key, one in state.troubled.items() if key != endpoint}
    return replace(state, troubled={**others, endpoint: trouble})


def bounded(state: Health) -> Health:
    """Forgets the least troubled when there are too many; of several alike, the one that changed longest ago."""
    if len(state.troubled) <= MAX_TROUBLED:
        return state
    least = min(state.troubled, key=lambda key: _severity(state.troubled[key]))
    return replace(state, troubled={key: one for key, one in state.troubled.items() if key != least})


def _severity(trouble: Trouble) -> tuple[bool, int, int]:
    counts = trouble.server_errors + trouble.gateway_errors + trouble.local_failures
    return trouble.status is not Status.ADMITTED, trouble.ejections, counts


# ---- as a record of the ledger ----

_HEADER = Struct("<HHxxxxQ")  # layout, entries, evaluated
_ENTRY = Struct("<QBxHIIIQ")  # key, status, ejections, the three counts, at
_LAYOUT = 1
MAX_EJECTIONS = 0xFFFF
MAX_TROUBLED = (RECORD_BYTES - _HEADER.size) // _ENTRY.size


def pack(state: Health) -> bytes:
    entries = (_ENTRY.pack(key, one[0], one[2], *one[3:], one[1]) for key, one in state.troubled.items())
    return _HEADER.pack(_LAYOUT, len(state.troubled), state.evaluated) + b"".join(entries)


def unpack(content: bytes) -> Health:
    """No content is HEALTHY, and so is another release's: what it knew will be found out again.

    Raises ValueError for content that nobody can have written: shorter than it says, or of no known status.
    """
    if len(content) < _HEADER.size:
        return HEALTHY
    layout, count, evaluated = _HEADER.unpack_from(content)
    if layout != _LAYOUT:
        return HEALTHY
    end = _HEADER.size + count * _ENTRY.size
    if end > len(content):
        raise ValueError(f"a record of outlier detection says {count} endpoints, and has {len(content)} bytes")
    rows = _ENTRY.iter_unpack(content[_HEADER.size : end])
    troubled = {key: Trouble(Status(status), at, times, *counts) for key, status, times, *counts, at in rows}
    return Health(evaluated, troubled)
