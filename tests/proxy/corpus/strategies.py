"""Valid messages and ways to cut them, for hypothesis."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence

from hypothesis import strategies as st

from tests.proxy.corpus.requests import AcceptedRequest

METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PROPFIND", b"REPORT", b"TRACE")
_TOKEN = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
_PATH = (string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@").encode()
_VISIBLE = bytes(range(0x21, 0x7F))
_MEANINGFUL = frozenset(
    b"host connection content-length transfer-encoding te trailer upgrade expect keep-alive proxy-connection "
    b"proxy-authenticate proxy-authorization proxy-authentication-info".split()
)


def _text(alphabet: bytes, smallest: int = 0, largest: int = 12) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), min_size=smallest, max_size=largest).map(bytes)


_escape = st.integers(1, 255).map(lambda code: b"%%%02X" % code)
_segment = st.lists(st.one_of(_text(_PATH, 1), _escape), max_size=3).map(b"".join)
_path = st.lists(_segment, min_size=1, max_size=4).map(lambda segments: b"/" + b"/".join(segments))
_query = st.one_of(st.just(b""), _text(_PATH + b"/?", 0, 20).map(lambda text: b"?" + text))
targets = st.builds(lambda path, query: path + query, _path, _query)

_name = _text(_TOKEN, 1).filter(lambda name: name.lower() not in _MEANINGFUL)
_words = st.lists(_text(_VISIBLE + bytes(range(0x80, 0x100)), 1), max_size=4)
_value = st.builds(lambda words, gap: gap.join(words), _words, st.sampled_from((b" ", b"\t", b"  ")))
_space = st.sampled_from((b"", b" ", b"\t", b" \t "))
_field = st.builds(lambda n, before, v, after: n + b":" + before + v + after + b"\r\n", _name, _space, _value, _space)
fields = st.lists(_field, max_size=8)

_extension = st.one_of(
    st.just(b""),
    st.builds(lambda name, value: b";" + name + b"=" + value, _text(_TOKEN, 1), _text(_TOKEN, 1)),
    st.builds(lambda name, value: b";" + name + b'="' + value + b'"', _text(_TOKEN, 1), _text(_PATH + b" \t")),
)
_size = st.sampled_from((b"%x", b"%X", b"0%x", b"000%x"))
_chunk = st.tuples(st.binary(min_size=1, max_size=40), _size, _extension)
_trailer = st.builds(lambda n, v: b"X-T" + n + b": " + v + b"\r\n", _name, _value)


def _chunked_body(chunks: Sequence[tuple[bytes, bytes, bytes]], last: bytes, trailers: Sequence[bytes]) -> bytes:
    framed = (size % len(data) + extension + b"\r\n" + data + b"\r\n" for data, size, extension in chunks)
    return b"".join(framed) + b"0" + last + b"\r\n" + b"".join(trailers) + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> AcceptedRequest:
    """A valid HTTP/1.1 request and what must arrive."""
    method, target = draw(st.sampled_from(METHODS)), draw(targets)
    lines = [b"Host: shop\r\n", *draw(fields)]
    kind = draw(st.sampled_from(("none", "length", "chunked")))
    framed = body = b""
    if kind == "length":
        framed = body = draw(st.binary(max_size=200))
        lines.append(b"Content-Length: %d\r\n" % len(body))
    elif kind == "chunked":
        chunks = draw(st.lists(_chunk, max_size=4))
        body = b"".join(data for data, _, _ in chunks)
        framed = _chunked_body(chunks, draw(_extension), draw(st.lists(_trailer, max_size=3)))
        lines.append(b"Transfer-Encoding: chunked\r\n")
    lines = draw(st.permutations(lines))
    wire = method + b" " + target + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n" + framed
    return AcceptedRequest("generated", wire, "", method, target, body=body)


def cut(wire: bytes, places: Sequence[int]) -> list[bytes]:
    """`wire` in pieces: cut at every place, taken modulo its length."""
    edges = [0, *sorted({place % len(wire) for place in places} - {0}), len(wire)]
    return [wire[start:end] for start, end in itertools.pairwise(edges)]


cuts = st.one_of(st.lists(st.integers(0, 2000), max_size=6), st.just(range(2000)))
"""Places for `cut`: a few anywhere, or every byte."""

# Targets that aim at the path judgement: what servers are known to read in different ways.
_SHARDS = (
    *("/", "//", ".", "..", "/./", "/../", "admin", "Admin", "adm", "in", "a", "public", ";", ";x=1", "?", "#", "\\"),
    *("%61", "%64", "%6D", "%6e", "%2e", "%2E", "%2f", "%2F", "%5c", "%00", "%3b", "%3F", "%23", "%25", "%", "%u0061"),
)
hostile_targets = st.lists(st.sampled_from(_SHARDS), min_size=1, max_size=9).map(lambda s: b"/" + "".join(s).encode())
