"""Consistent hashing (loadBalancer RingHash, as Ketama does it), and what of a request is hashed.

Each endpoint owns points on a ring of 64 bits; a key belongs to the first point after it.  Where an endpoint comes or
goes, only the keys next to its points move: 1/N of them on average.  Hashes are the same in every process.

An endpoint has POINTS points.  A ring of more than MAX_POINTS / POINTS endpoints has fewer of each, because it is
built inside the worker's loop (about 0.5 us a point); the share of an endpoint then spreads more (by 1/sqrt(points)).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from struct import unpack

from nodeagent.core.traffic import HashOn, LoadBalancer

POINTS, LEAST_POINTS, MAX_POINTS = 128, 4, 16_384
_DIGEST_POINTS = 8
"""One BLAKE2b digest is 64 bytes."""


class Ring:
    """Built once per list of endpoints; `names` ("address:port") are what is hashed, indexes what is picked."""

    __slots__ = ("_count", "_mask", "_points")

    def __init__(self, names: Sequence[str]) -> None:
        self._count = len(names)
        self._mask = (1 << self._count.bit_length()) - 1  # the low bits of a point say whose it is
        self._points = array("Q", sorted(_points(names, self._mask)))

    def pick(self, key: int, excluded: Collection[int] = ()) -> int | None:
        """The index of the first endpoint after `key` (64 bits, `hash_of`) that is not excluded."""
        if len(excluded) >= self._count:
            return None
        points, mask = self._points, self._mask
        place = bisect_right(points, key | mask)
        size = len(points)
        index = points[place if place < size else 0] & mask
        while index in excluded:
            place += 1
            index = points[place % size] & mask
        return index


def points_each(count: int) -> int:
    """How many points each of `count` endpoints has."""
    return max(LEAST_POINTS, min(POINTS, MAX_POINTS // max(count, 1)))


def _points(names: Sequence[str], mask: int) -> list[int]:
    each, clear = points_each(len(names)), ~mask
    return [point & clear | index for index, name in enumerate(names) for point in _hashes(name, each)]


def _hashes(name: str, count: int) -> tuple[int, ...]:
    """The first `count` of an endless list that belongs to the name."""
    data, digests = name.encode(), -(-count // _DIGEST_POINTS)
    found = b"".join(blake2b(data, salt=bytes((number,))).digest() for number in range(digests))
    return unpack(f">{count}Q", found[: count * 8])


def hash_of(text: str) -> int:
    """64 bits of a header's or cookie's value, or of an address."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


# ---- what is hashed ----


def hash_key(balancer: LoadBalancer, headers: Iterable[tuple[str, str]], address: str) -> int | None:
    """The key of a request from `address`; None when it has nothing to hash: any endpoint will do."""
    if balancer.hash_on is HashOn.SOURCE_IP:
        return hash_of(address)
    if balancer.hash_on is HashOn.COOKIE:
        cookie = cookie_value(headers, balancer.name)
        return hash_of(cookie) if cookie else None
    lines = [value for name, value in headers if name == balancer.name]
    return hash_of(",".join(lines)) if lines else None


def cookie_value(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """Of the first cookie with exactly this name (RFC 6265 5.4: `a=1; b=2`), or None."""
    for field, line in headers:
        if field == "cookie" and name in line:
            for pair in line.split(";"):
                key, mark, value = pair.partition("=")
                if mark and key.strip(" \t") == name:
                    return value.strip(" \t")
    return None


def new_cookie(bits: int) -> str:
    """An opaque value of 64 random bits; its `hash_of` is the key of the request that had none."""
    return f"{bits:016x}"


def set_cookie(balancer: LoadBalancer, value: str) -> str:
    """The value of a Set-Cookie field (RFC 6265 4.1); a `ttl` lasts at least a second, for 0 would delete it."""
    age = f"; Max-Age={max(1, balancer.ttl // 1000)}" if balancer.ttl else ""
    return f"{balancer.name}={value}; Path={balancer.path}{age}; HttpOnly"
