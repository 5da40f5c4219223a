"""The body of one request on its way: how much of what arrives belongs to it, and what to send for it."""

from __future__ import annotations

from nodeagent.core.bounds import Bounds
from nodeagent.core.chunked import LAST_CHUNK, ChunkedDecoder, ChunkError, encode_chunk
from nodeagent.core.framing import Body
from nodeagent.core.refusals import REQUESTS, Refused
from nodeagent.core.request_plan import RequestPlan
from nodeagent.proxy.http1 import parse_trailer


class RequestBody:
    """`size` counts bytes taken, head included.  `left` of a body by length is what has not arrived."""

    __slots__ = ("_bounds", "_decoder", "done", "left", "size")

    def __init__(self, plan: RequestPlan, bounds: Bounds, head_size: int) -> None:
        self._bounds = bounds
        self._decoder = ChunkedDecoder(bounds.head_bytes) if plan.body == Body.CHUNKED else None
        self.left = plan.length
        self.done = plan.body == Body.NONE
        self.size = head_size

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """(bytes for the upstream, bytes after this request).  Raises Refused when the framing is broken."""
        if self._decoder is not None:
            return self._take_chunks(self._decoder, data)
        left, count = self.left, len(data)
        if count < left:
            self.left = left - count
            self.size += count
            return data, b""
        self.left = 0
        self.size += left
        self.done = True
        return (data, b"") if count == left else (data[:left], data[left:])

    def forwarded(self) -> None:
        """What was taken has begun to go to an endpoint; may come more than once."""

    def ended(self) -> None:
        """No more will come."""

    def _take_chunks(self, decoder: ChunkedDecoder, data: bytes) -> tuple[bytes, bytes]:
        try:
            pieces, used = decoder.feed(data)
        except ChunkError as error:
            raise Refused(REQUESTS[error.reason]) from error
        self.size += used
        out = encode_chunk(pieces)
        if decoder.done:
            self.done = True
            try:
                out += last_chunk(decoder, self._bounds.header_count)
            except Refused as error:
                raise Refused(REQUESTS["trailer"]) from error
        return out, data[used:]


def last_chunk(decoder: ChunkedDecoder, max_fields: int) -> bytes:
    """The end of a chunked body with what may be forwarded of its trailer section.  Raises Refused."""
    if not decoder.trailer:
        return LAST_CHUNK + b"\r\n"
    fields = parse_trailer(decoder.trailer, max_fields)
    return LAST_CHUNK + b"".join([field[4] + b"\r\n" for field in fields]) + b"\r\n"
