"""The response of one exchange as its bytes arrive: what to send to the client for them, and whether it is whole.

No socket here: bytes in, bytes out.  A response that follows no grammar raises Refused; what was returned before
that was sent, so whoever reads it must then be told by a reset.
"""

from __future__ import annotations

from nodeagent.core.bounds import Bounds
from nodeagent.core.chunked import ChunkedDecoder, ChunkError, encode_chunk
from nodeagent.core.fields import Fields
from nodeagent.core.filters import HeaderChange
from nodeagent.core.framing import Body
from nodeagent.core.refusals import RESPONSES, Refused
from nodeagent.core.request_plan import RequestPlan
from nodeagent.core.response_plan import ResponsePlan, filtered_response, interim_head, plan_response
from nodeagent.proxy import usual_heads
from nodeagent.proxy.http1 import parse_response
from nodeagent.proxy.request_body import last_chunk


class Response:
    """`plan` is None until a final head came.  `excess`: the upstream said more than one response."""

    __slots__ = (
        "_bounds",
        "_change",
        "_decoder",
        "_held",
        "_interims",
        "_request",
        "continued",
        "done",
        "excess",
        "left",
        "plan",
        "rest",
        "reusable",
        "switched",
    )

    def __init__(self, request: RequestPlan, bounds: Bounds, change: HeaderChange | None = None) -> None:
        self._request = request
        self._bounds = bounds
        self._change = change  # by a route's filters
        self._held = b""  # a head that has not arrived whole
        self._interims = 0
        self._decoder: ChunkedDecoder | None = None
        self.plan: ResponsePlan | None = None
        self.continued = False  # a 100 (Continue) was passed on
        self.left = 0  # of a body by length
        self.done = False
        self.excess = False
        self.reusable = False  # the upstream connection, after this response
        self.switched = False  # by a 101: what follows is no HTTP
        self.rest = b""  # what followed the 101

    @property
    def begun(self) -> bool:
        """Something of it has come: the upstream has taken the request."""
        return self.plan is not None or bool(self._held) or self._interims > 0

    @property
    def held(self) -> int:
        return len(self._held)

    def feed(self, data: bytes, request_done: bool, draining: bool) -> bytes:
        """What to send to the client.  Not to be called once `done`."""
        plan = self.plan
        if plan is None:
            return self._feed_head(data, request_done, draining)
        if plan.body == Body.LENGTH:
            return self._feed_length(data)
        if plan.body == Body.CHUNKED:
            return self._feed_chunks(plan, data)
        return encode_chunk([data]) if plan.chunk_it else data

    def end(self) -> bytes:
        """The upstream closed in good order: its end may be the message's."""
        plan = self.plan
        if plan is None or plan.body != Body.UNTIL_CLOSE:
            raise Refused(RESPONSES["upstream-truncated"])
        self.done = True
        return b"0\r\n\r\n" if plan.chunk_it else b""

    # ---- heads ----

    def _feed_head(self, data: bytes, request_done: bool, draining: bool) -> bytes:
        if self._held:
            data, self._held = self._held + data, b""
        usual = request_done and not draining and self._is_usual()
        interim = b""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4 or end > self._bounds.head_bytes:
                self._hold(data)
                return interim
            head, data = data[:end], data[end:]
            plan = usual_heads.get(head) if usual else None
            if plan is None:
                status, phrase, minor, fields = parse_response(head, self._bounds.header_count)
                if status < 200 and status != 101:
                    interim += self._interim(status, phrase, fields)
                    if not data:
                        return interim
                    continue
                plan = self._plan(status, phrase, minor, fields, request_done, draining)
                if usual:
                    usual_heads.remember(head, plan)
            return interim + self._begin(plan, data)

    def _is_usual(self) -> bool:
        """Where a response's plan depends on its head alone."""
        request = self._request
        plain = not request.is_head and not request.upgrade and self._change is None
        return request.minor == 1 and request.keep_alive and plain

    def _hold(self, data: bytes) -> None:
        if len(data) > self._bounds.head_bytes:
            raise Refused(RESPONSES["upstream-head-size"])
        if not b"HTTP/1.".startswith(data[:7]):
            raise Refused(RESPONSES["upstream-status"])
        end = data.find(b"\n")
        if end >= 0 and data[end - 1 : end] != b"\r":
            raise Refused(RESPONSES["upstream-line-ending"])
        if b"\n\n" in data:
            raise Refused(RESPONSES["upstream-line-ending"])
        self._held = data

    def _interim(self, status: int, phrase: bytes, fields: Fields) -> bytes:
        self._interims += 1
        if self._interims > self._bounds.interim_responses:
            raise Refused(RESPONSES["upstream-interim"])
        if status == 100:
            self.continued = True
        return interim_head(status, phrase, fields) if self._request.minor == 1 else b""

    def _plan(
        self, status: int, phrase: bytes, minor: int, fields: Fields, request_done: bool, draining: bool
    ) -> ResponsePlan:
        request = self._request
        if status == 101 and not (request.upgrade and request_done):
            raise Refused(RESPONSES["upstream-switch"])
        keep = request.keep_alive and not draining
        if self._change is not None:
            fields = filtered_response(fields, self._change)
        plan = plan_response(status, phrase, minor, fields, request, keep)
        if request_done:
            return plan
        # Without a 100 the client may send its body or a next request now: nobody can tell, so this is the last one.
        ambiguous = request.expects_continue and not self.continued
        if keep and (ambiguous or not plan.upstream_reusable):
            plan = plan_response(status, phrase, minor, fields, request, False)
            plan.upstream_reusable = False
        elif ambiguous:
            plan.upstream_reusable = False
        return plan

    # ---- bodies ----

    def _begin(self, plan: ResponsePlan, data: bytes) -> bytes:
        self.plan = plan
        self.reusable = plan.upstream_reusable
        body = plan.body
        if plan.status == 101:
            self.switched = True
            self.rest = data
            return plan.head
        if body == Body.NONE:
            self._finish(bool(data))
            return plan.head
        if body == Body.LENGTH:
            self.left = plan.length
            return plan.head + self._feed_length(data)
        if body == Body.CHUNKED:
            self._decoder = ChunkedDecoder(self._bounds.head_bytes)
            return plan.head + self._feed_chunks(plan, data)
        return plan.head + (encode_chunk([data]) if plan.chunk_it else data)

    def _feed_length(self, data: bytes) -> bytes:
        left, count = self.left, len(data)
        if count < left:
            self.left = left - count
            return data
        self._finish(count > left)
        return data if count == left else data[:left]

    def _feed_chunks(self, plan: ResponsePlan, data: bytes) -> bytes:
        decoder = self._decoder
        assert decoder is not None
        try:
            pieces, used = decoder.feed(data)
        except ChunkError as error:
            raise Refused(RESPONSES[f"upstream-{error.reason}"]) from error
        if not decoder.done:
            return encode_chunk(pieces) if plan.chunk_it else b"".join(pieces)
        try:
            end = last_chunk(decoder, self._bounds.header_count) if plan.chunk_it else b""
        except Refused as error:
            raise Refused(RESPONSES["upstream-trailer"]) from error
        self._finish(used < len(data))
        return (encode_chunk(pieces) if plan.chunk_it else b"".join(pieces)) + end

    def _finish(self, excess: bool) -> None:
        self.done = True
        if excess:
            self.excess = True
            self.reusable = False
