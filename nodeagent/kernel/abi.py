"""Python's half of bpf/abi.h: the structs that live in BPF maps, and the constants around them.

tests/kernel/test_abi.py compiles the header with the host's cc and compares every size and offset
with these classes, so the two cannot drift apart.  Integers are host order unless a field's comment
in the header says wire order; helpers here do the conversions.
"""

from __future__ import annotations

import ctypes
import enum
import ipaddress
import socket
from ctypes import c_char, c_uint8, c_uint16, c_uint32, c_uint64

LAYOUT_VERSION = 4
MAX_WORKERS = 16
FAMILY_IPV4 = 4
FAMILY_IPV6 = 6

POD_FAIL_CLOSED = 1
POD_PASS = 2

DEST_PROXY = 1
DEST_ENFORCE = 2
DEST_REFUSE = 4
DEST_FRONTEND = 8
DEST_RATE = 16
DEST_NODE = 32

RATE_DRY_RUN = 1

DIALLED_PLACES = 65536

ALLOW = 1
DENY = 2
AUDIT = 4
WOULD_DENY = 8

SERIES_PER_WORKER = 2048
BUCKETS = 16

SERIES_LABELS = (
    "source_workload",
    "source_workload_namespace",
    "destination_service",
    "destination_service_namespace",
    "route",
    "rule",
    "policy",
    "request_method",
    "response_code",
    "response_flags",
    "reason",
)
"""What a slot's `labels` are, in order: names are not repeated in every slot."""

WINDOW_SLICES = 10
RECORD_WORDS = 254
MAX_CLAIMS = 8

MAPPED_PREFIX = b"\0" * 10 + b"\xff\xff"


class Outcome(enum.IntEnum):
    """What a connect hook decided (enum na_outcome)."""

    DIRECT = 1
    PROXIED = 2
    DENIED = 3
    DENIED_UNENFORCEABLE = 4
    NO_ENDPOINT = 5
    BYPASS_NO_WORKER = 6
    REFUSED_NO_WORKER = 7
    BYPASS_FULL = 8
    REFUSED_FULL = 9
    BYPASS_SOURCE_PORT = 10
    REFUSED_SOURCE_PORT = 11
    AUDITED = 12
    UDP = 13
    UNKNOWN = 14
    DRAINED = 15
    UNPOLICED = 16
    CUT = 17
    UNJUDGED = 18
    RATE_LIMITED = 19
    WOULD_RATE_LIMIT = 20
    WOULD_DENY = 21
    UNCLASSIFIED_DIRECT = 22
    UNCLASSIFIED_REFUSED = 23
    DIRECT_EXPIRED = 24


class NameKind(enum.IntEnum):
    """What an id in the map `names` stands for."""

    WORKLOAD = 1
    DEST = 2
    POLICY = 3
    POD = 4
    NEXT = 5


class ClaimKind(enum.IntEnum):
    SLOT = 1
    TOKENS = 2
    REQUEST = 3
    RETRY = 4


class LedgerOp(enum.IntEnum):
    TAKE = 1
    GIVE = 2
    REAP = 3


class Answer(enum.IntEnum):
    """What the ledger's programs return."""

    TAKEN = 0
    REFUSED = 1
    FULL = 2
    CONTENDED = 3
    INVALID = 4


ANSWER_SHIFT = 8
ANSWER_CLAIM = 0xFF


class Addr(ctypes.Structure):
    """struct na_addr: 16 bytes in wire order, IPv4 as ::ffff:a.b.c.d."""

    _fields_ = (("w", c_uint32 * 4),)


class Config(ctypes.Structure):
    _fields_ = (
        ("heartbeat_limit_ms", c_uint32),
        ("orig_limit", c_uint32),
        ("pod_limit", c_uint32),
        ("pad", c_uint32),
        ("instance", c_char * 96),
    )


class Pod(ctypes.Structure):
    _fields_ = (
        ("pod", c_uint32),
        ("workload", c_uint32),
        ("flags", c_uint32),
        ("ipv4", c_uint32),
        ("ipv6", Addr),
    )


class Guard(ctypes.Structure):
    _fields_ = (
        ("kubepods", c_uint64),
        ("refuse", c_uint32),
        ("refuse_away", c_uint32),
    )


class OwnKey(ctypes.Structure):
    _fields_ = (("netns", c_uint64), ("addr", Addr))


class DestKey(ctypes.Structure):
    _fields_ = (("addr", Addr), ("port", c_uint16), ("pad", c_uint16))


class Dest(ctypes.Structure):
    _fields_ = (
        ("dest", c_uint32),
        ("flags", c_uint32),
        ("ep_set", c_uint32),
        ("ep_count", c_uint32),
        ("policy", c_uint32),
        ("default_verdict", c_uint32),
    )


class EndpointKey(ctypes.Structure):
    _fields_ = (("ep_set", c_uint32), ("index", c_uint32))


class Ep(ctypes.Structure):
    _fields_ = (("addr", Addr), ("port", c_uint16), ("pad", c_uint16))


class Rate(ctypes.Structure):
    _fields_ = (
        ("period", c_uint64),
        ("tolerance", c_uint64),
        ("tat", c_uint64),
        ("flags", c_uint32),
        ("policy", c_uint32),
    )


class Dialled(ctypes.Structure):
    _fields_ = (
        ("turn", c_uint32),
        ("places", c_uint8 * DIALLED_PLACES),
    )


class VerdictKey(ctypes.Structure):
    _fields_ = (("policy", c_uint32), ("pod", c_uint32))


class Verdict(ctypes.Structure):
    _fields_ = (("verdict", c_uint32), ("rule", c_uint32), ("audit", c_uint32), ("would", c_uint32))


class ListenerKey(ctypes.Structure):
    _fields_ = (("netns", c_uint64), ("worker", c_uint32), ("family", c_uint32))


class Listener(ctypes.Structure):
    _fields_ = (("port", c_uint16), ("pad", c_uint16))


class OrigKey(ctypes.Structure):
    _fields_ = (
        ("netns", c_uint64),
        ("saddr", Addr),
        ("sport", c_uint16),
        ("lport", c_uint16),
        ("family", c_uint32),
    )


class Orig(ctypes.Structure):
    _fields_ = (
        ("addr", Addr),
        ("port", c_uint16),
        ("pad", c_uint16),
        ("dest", c_uint32),
        ("created_ns", c_uint64),
    )


class Socket(ctypes.Structure):
    _fields_ = (
        ("addr", Addr),
        ("port", c_uint16),
        ("lport", c_uint16),
        ("pod", c_uint32),
        ("workload", c_uint32),
        ("dest", c_uint32),
        ("outcome", c_uint32),
        ("family", c_uint32),
        ("netns", c_uint64),
        ("established", c_uint32),
        ("fin_end", c_uint32),
        ("fin_seen", c_uint32),
        ("flight", c_uint32),
    )


class ConnKey(ctypes.Structure):
    _fields_ = (
        ("workload", c_uint32),
        ("dest", c_uint32),
        ("outcome", c_uint32),
        ("rule", c_uint32),
    )


class ConnStats(ctypes.Structure):
    _fields_ = (
        ("opened", c_uint64),
        ("closed", c_uint64),
        ("tx_bytes", c_uint64),
        ("rx_bytes", c_uint64),
        ("failed", c_uint64),
    )


class Name(ctypes.Structure):
    _fields_ = (("kind", c_uint32), ("text", c_char * 252))


class Series(ctypes.Structure):
    _fields_ = (
        ("used", c_uint64),
        ("requests", c_uint64),
        ("request_bytes", c_uint64),
        ("response_bytes", c_uint64),
        ("duration_us", c_uint64),
        ("buckets", c_uint64 * BUCKETS),
        ("labels", c_char * 856),
    )


class Slots(ctypes.Structure):
    _fields_ = (("total", c_uint64), ("held", c_uint64 * MAX_WORKERS))


class Budget(ctypes.Structure):
    _fields_ = (("floor", c_uint64), ("slices", c_uint64 * WINDOW_SLICES))


class Record(ctypes.Structure):
    _fields_ = (
        ("begin", c_uint64),
        ("length", c_uint64),
        ("content", c_uint64 * RECORD_WORDS),
        ("end", c_uint64),
    )


class Claim(ctypes.Structure):
    _fields_ = (
        ("key", c_uint64),
        ("kind", c_uint32),
        ("percent", c_uint32),
        ("limit", c_uint64),
        ("slice", c_uint64),
        ("period", c_uint64),
        ("tolerance", c_uint64),
    )


class LedgerCall(ctypes.Structure):
    _fields_ = (
        ("op", c_uint32),
        ("worker", c_uint32),
        ("count", c_uint32),
        ("floors", c_uint32),
        ("claims", Claim * MAX_CLAIMS),
    )


class RecordSwap(ctypes.Structure):
    _fields_ = (
        ("key", c_uint64),
        ("version", c_uint64),
        ("length", c_uint64),
        ("content", c_uint64 * RECORD_WORDS),
    )


STRUCTS: dict[str, type[ctypes.Structure]] = {
    "na_addr": Addr,
    "na_config": Config,
    "na_pod": Pod,
    "na_guard": Guard,
    "na_own_key": OwnKey,
    "na_dest_key": DestKey,
    "na_dest": Dest,
    "na_ep_key": EndpointKey,
    "na_ep": Ep,
    "na_rate": Rate,
    "na_dialled": Dialled,
    "na_verdict_key": VerdictKey,
    "na_verdict": Verdict,
    "na_listener_key": ListenerKey,
    "na_listener": Listener,
    "na_orig_key": OrigKey,
    "na_orig": Orig,
    "na_socket": Socket,
    "na_conn_key": ConnKey,
    "na_conn_stats": ConnStats,
    "na_name": Name,
    "na_series": Series,
    "na_slots": Slots,
    "na_budget": Budget,
    "na_record": Record,
    "na_claim": Claim,
    "na_ledger_call": LedgerCall,
    "na_record_swap": RecordSwap,
}


def pack_addr(text: str) -> bytes:
    """16 bytes of an address in text form; IPv4 becomes IPv4-mapped.  ValueError if it is no address."""
    address = ipaddress.ip_address(text)
    packed = address.packed
    return packed if len(packed) == 16 else MAPPED_PREFIX + packed


def unpack_addr(packed: bytes) -> str:
    """Canonical text of 16 bytes; IPv4-mapped bytes read as IPv4."""
    if packed.startswith(MAPPED_PREFIX):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def make_addr(text: str) -> Addr:
    return Addr.from_buffer_copy(pack_addr(text))


def wire_port(port: int) -> int:
    """A port as the header's __be16 fields hold it (and back)."""
    return socket.htons(port)


def orig_key(netns: int, peer_address: str, peer_port: int, listener_port: int, family: int) -> bytes:
    """Key of `originals` for a socket that a worker accepted: what getpeername and its listener say."""
    return bytes(OrigKey(netns, make_addr(peer_address), wire_port(peer_port), wire_port(listener_port), family))
