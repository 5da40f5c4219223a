"""One request and its response, between a Downstream and an Upstream.

The request is sent as soon as a connection is there; its body follows as it arrives.  The response is passed on
as it arrives.  Either may end first.  Everything that can go wrong ends in one of four ways:

    answered      nothing of a response was sent: 502 or 503, with a reason
    tried again   nothing of the request can have been acted upon
    aborted       part of a response was sent: the client's connection is reset
    dropped       the client is gone
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from nodeagent.core.chunked import LAST_CHUNK, ChunkedDecoder, ChunkError, encode_chunk
from nodeagent.core.fields import Fields
from nodeagent.core.framing import Body, RequestPlan, ResponsePlan, interim_head, plan_response
from nodeagent.core.model import Decision, Endpoint
from nodeagent.core.refusals import REQUESTS, RESPONSES, Refusal, Refused
from nodeagent.proxy import usual_heads
from nodeagent.proxy.http1 import parse_response, parse_trailer
from nodeagent.proxy.stream import BULK_READ_BYTES
from nodeagent.proxy.upstream import Upstream

if TYPE_CHECKING:
    from nodeagent.proxy.downstream import Downstream
    from nodeagent.proxy.view import View

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 9.2.2; others are never sent twice."""
CONNECT_TRIES = 3


class Exchange:
    """Lives from the decision to forward until the response is complete."""

    __slots__ = (
        "_body_decoder",
        "_continued",
        "_decision",
        "_down",
        "_held",
        "_interims",
        "_left",
        "_over",
        "_plan",
        "_request_decoder",
        "_request_left",
        "_request_size",
        "_resend",
        "_response",
        "_response_done",
        "_response_size",
        "_reusable",
        "_reused",
        "_started",
        "_tried",
        "_unsent",
        "_up",
        "_view",
        "request_done",
    )

    def __init__(
        self, down: Downstream, view: View, plan: RequestPlan, decision: Decision, started: float, size: int
    ) -> None:
        self._down = down
        self._view = view
        self._plan = plan
        self._decision = decision
        self._started = started
        self._request_size = size
        self._response_size = 0
        self._up: Upstream | None = None
        self._reused = False
        self._unsent = b""  # of the request, while there is no connection
        self._resend: bytes | None = None  # the whole request, while it may be sent again
        self._tried: tuple[Endpoint, ...] = ()
        self._request_left = plan.length
        self._request_decoder: ChunkedDecoder | None = None
        self.request_done = plan.body == Body.NONE
        self._response: ResponsePlan | None = None
        self._reusable = False  # the upstream connection, after this response
        self._held = b""  # a response head that has not arrived whole
        self._left = 0
        self._body_decoder: ChunkedDecoder | None = None
        self._response_done = False
        self._continued = False  # a 100 (Continue) was passed on
        self._interims = 0
        self._over = False

    @property
    def decision(self) -> Decision:
        return self._decision

    # ---- the request ----

    def start(self, rest: bytes) -> None:
        """Send the head with what has come of the body; pipelined bytes go back to the client's side."""
        plan = self._plan
        data = plan.head()
        down = self._down
        if self.request_done:
            if rest:
                down.hold(rest)
        else:
            if plan.body == Body.CHUNKED:
                self._request_decoder = ChunkedDecoder(down.engine.bounds.head_bytes)
            if rest:
                try:
                    body, rest = self._take_body(rest)
                except ChunkError as error:
                    self._request_broken(REQUESTS[error.reason])
                    return
                except Refused:
                    self._request_broken(REQUESTS["trailer"])
                    return
                data += body
                if rest:
                    down.hold(rest)
        if self.request_done and plan.method in IDEMPOTENT and len(data) <= down.engine.bounds.replay_bytes:
            self._resend = data
        self._unsent = data
        endpoint = self._decision.endpoint
        assert endpoint is not None
        self._go(endpoint, reuse=True)

    def _take_body(self, data: bytes) -> tuple[bytes, bytes]:
        """(bytes for the upstream, bytes after this request).  Raises ChunkError or Refused."""
        if self._request_decoder is None:
            left = self._request_left
            count = len(data)
            if count < left:
                self._request_left = left - count
                self._request_size += count
                return data, b""
            self._request_left = 0
            self._request_size += left
            self.request_done = True
            return (data, b"") if count == left else (data[:left], data[left:])
        return self._take_chunks(self._request_decoder, data)

    def _take_chunks(self, decoder: ChunkedDecoder, data: bytes) -> tuple[bytes, bytes]:
        pieces, used = decoder.feed(data)
        self._request_size += used
        out = encode_chunk(pieces)
        if decoder.done:
            self.request_done = True
            out += self._last_chunk(decoder)
        return out, data[used:]

    def _last_chunk(self, decoder: ChunkedDecoder) -> bytes:
        if not decoder.trailer:
            return LAST_CHUNK + b"\r\n"
        fields = parse_trailer(decoder.trailer, self._down.engine.bounds.header_count)
        return LAST_CHUNK + b"".join([field[4] + b"\r\n" for field in fields]) + b"\r\n"

    def request_data(self, data: bytes) -> bytes:
        """More of the body; returns what belongs to the next request."""
        try:
            out, rest = self._take_body(data)
        except ChunkError as error:
            self._request_broken(REQUESTS[error.reason])
            return b""
        except Refused:
            self._request_broken(REQUESTS["trailer"])
            return b""
        if self._up is None or not self._up.connected:
            self._unsent += out
            self._down.stream.pause_reading()
        elif out:
            self._up.stream.write(out)
        if self._request_left > BULK_READ_BYTES:
            self._down.stream.read_bytes = BULK_READ_BYTES
        if self.request_done and self._response_done:
            self._finish()
        return rest

    def _request_broken(self, refusal: Refusal) -> None:
        """The body's framing is broken: the upstream must not take what it got for a whole request."""
        self._drop_upstream(abort=True)
        if self._response is None:
            self._over = True
            down = self._down
            down.exchange = None
            down.engine.record(
                down,
                self._plan,
                self._decision,
                refusal.status,
                self._request_size,
                down.fail(refusal.status, refusal.reason, refusal.detail, False, self._plan),
                self._started,
                "DPE",
                refusal.reason,
            )
            down.linger()
        else:
            self._abort("DPE", refusal.reason)

    # ---- finding a connection ----

    def _go(self, endpoint: Endpoint, reuse: bool) -> None:
        down = self._down
        engine = down.engine
        key = (down.cookie, endpoint)
        self._tried += (endpoint,)
        if reuse:
            upstream = engine.pool.take(key)
            if upstream is not None:
                self._reused = True
                self._up = upstream
                upstream.user = self
                self._send()
                return
        self._reused = False
        sock = engine.sockets.take(down.cookie, 6 if ":" in endpoint.address else 4)
        if sock is not None:
            self._connect(endpoint, sock)
            return
        if not self.request_done:
            down.stream.pause_reading()
        engine.sockets.wait(
            down.cookie, 6 if ":" in endpoint.address else 4, lambda made: self._socket_came(endpoint, made)
        )

    def _socket_came(self, endpoint: Endpoint, made: socket.socket | OSError) -> None:
        if isinstance(made, OSError):
            if not self._over:
                self.upstream_failed(made)
        elif self._over:
            made.close()
        else:
            self._connect(endpoint, made)

    def _connect(self, endpoint: Endpoint, sock: socket.socket) -> None:
        self._up = self._down.engine.pool.open((self._down.cookie, endpoint), sock, self)
        self._up.connect()

    def upstream_connected(self) -> None:
        self._send()

    def _send(self) -> None:
        assert self._up is not None
        unsent, self._unsent = self._unsent, b""
        self._down.listen()
        self._up.stream.write(unsent)

    def upstream_failed(self, _error: OSError) -> None:
        """No connection to the endpoint: nothing was sent, so any other may serve."""
        self._up = None
        others = [one for one in self._view.alternatives(self._decision.backend) if one not in self._tried]
        if others and len(self._tried) < CONNECT_TRIES:
            self._down.engine.stats.connect_retries += 1
            self._go(others[int(self._started * 1e6) % len(others)], reuse=True)
            return
        endpoint = self._tried[-1]
        detail = f"cannot connect to {endpoint.address} port {endpoint.port} of {self._decision.backend}"
        self._answer(503, "upstream-connect-failed", detail, "UF")

    # ---- the response ----

    def upstream_data(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self._head_data(data)
        elif self._response_done:
            self._unsolicited()
        else:
            self._body_data(response, data)

    def _head_data(self, data: bytes) -> None:
        self._resend = None
        if self._held:
            data, self._held = self._held + data, b""
        is_usual = self._is_usual()
        if is_usual:
            end = data.find(b"\r\n\r\n") + 4
            response = usual_heads.get(data[:end])
            if response is not None:
                self._take_response(response, data[end:])
                return
        try:
            while True:
                end = data.find(b"\r\n\r\n") + 4
                if end < 4 or end > self._down.engine.bounds.head_bytes:
                    self._hold_head(data)
                    return
                head = data if end == len(data) else data[:end]
                status, phrase, minor, fields = parse_response(head, self._down.engine.bounds.header_count)
                data = data[end:]
                if status >= 200 or status == 101:
                    break
                self._interim(status, phrase, fields)
                if not data:
                    return
            response = self._judge(status, phrase, minor, fields)
        except Refused as error:
            self._response_broken(error.refusal)
            return
        if is_usual:
            usual_heads.remember(head, response)
        self._take_response(response, data)

    def _is_usual(self) -> bool:
        """Where a response's plan depends on its head alone."""
        plan = self._plan
        usual = plan.minor == 1 and plan.keep_alive and not plan.is_head and not plan.upgrade
        return usual and self.request_done and not self._down.engine.draining

    def _take_response(self, response: ResponsePlan, rest: bytes) -> None:
        self._response = response
        self._reusable = response.upstream_reusable
        if response.status == 101:
            self._switch(response, rest)
        else:
            self._begin_body(response, rest)

    def _hold_head(self, data: bytes) -> None:
        if len(data) > self._down.engine.bounds.head_bytes:
            raise Refused(RESPONSES["upstream-head-size"])
        if not b"HTTP/1.".startswith(data[:7]):
            raise Refused(RESPONSES["upstream-status"])
        end = data.find(b"\n")
        if end >= 0 and data[end - 1 : end] != b"\r":
            raise Refused(RESPONSES["upstream-line-ending"])
        if b"\n\n" in data:
            raise Refused(RESPONSES["upstream-line-ending"])
        self._held = data

    def _interim(self, status: int, phrase: bytes, fields: Fields) -> None:
        self._interims += 1
        if self._interims > self._down.engine.bounds.interim_responses:
            raise Refused(RESPONSES["upstream-interim"])
        if status == 100:
            self._continued = True
        if self._plan.minor == 1:
            head = interim_head(status, phrase, fields)
            self._response_size += len(head)
            self._down.stream.write(head)

    def _judge(self, status: int, phrase: bytes, minor: int, fields: Fields) -> ResponsePlan:
        plan = self._plan
        if status == 101 and not (plan.upgrade and self.request_done):
            raise Refused(RESPONSES["upstream-switch"])
        keep = plan.keep_alive and not self._down.engine.draining
        response = plan_response(status, phrase, minor, fields, plan, keep)
        if not self.request_done:
            if plan.expects_continue and not self._continued:
                # The client may send its body or a next request now: nobody can tell, so this is the last one.
                response.upstream_reusable = False
            if not response.upstream_reusable and keep:
                ended = plan_response(status, phrase, minor, fields, plan, False)
                ended.upstream_reusable = False
                return ended
        return response

    def _begin_body(self, response: ResponsePlan, data: bytes) -> None:
        head = response.head
        body = response.body
        if body == Body.LENGTH:
            left = response.length - len(data)
            if left > 0:
                self._left = left
                if left > BULK_READ_BYTES:
                    assert self._up is not None
                    self._up.stream.read_bytes = BULK_READ_BYTES
                self._pass(head + data)
            else:
                self._complete(head + data if not left else head + data[: response.length], left < 0)
        elif body == Body.NONE:
            self._complete(head, bool(data))
        else:
            if body == Body.CHUNKED:
                self._body_decoder = ChunkedDecoder(self._down.engine.bounds.head_bytes)
            self._body_data(response, data, head)

    def _body_data(self, response: ResponsePlan, data: bytes, before: bytes = b"") -> None:
        if response.body == Body.LENGTH:
            count = len(data)
            left = self._left
            if count < left:
                self._left = left - count
                self._pass(data)
            else:
                self._complete(data if count == left else data[:left], count > left)
        elif response.body == Body.CHUNKED:
            self._chunked_data(response, data, before)
        else:
            self._pass(before + (encode_chunk([data]) if response.chunk_it else data))

    def _chunked_data(self, response: ResponsePlan, data: bytes, before: bytes) -> None:
        decoder = self._body_decoder
        assert decoder is not None
        last = b""
        try:
            pieces, used = decoder.feed(data)
            if decoder.done and response.chunk_it:
                last = self._last_chunk(decoder)
        except ChunkError as error:
            self._response_broken(RESPONSES[f"upstream-{error.reason}"])
            return
        except Refused:
            self._response_broken(RESPONSES["upstream-trailer"])
            return
        out = encode_chunk(pieces) if response.chunk_it else b"".join(pieces)
        if decoder.done:
            self._complete(before + out + last, used < len(data))
        elif before or out:
            self._pass(before + out)

    def _pass(self, data: bytes) -> None:
        self._response_size += len(data)
        self._down.stream.write(data)

    def _complete(self, data: bytes, excess: bool) -> None:
        """The response is whole.  `excess`: the upstream said more than that, and is not asked again."""
        self._response_size += len(data)
        self._down.stream.write(data)
        self._response_done = True
        if excess:
            self._down.engine.stats.upstream_unsolicited += 1
            self._reusable = False
        if self.request_done or not self._reusable:
            self._finish()

    def _finish(self) -> None:
        """Both directions are over, or the rest of the request interests nobody."""
        if self._over:
            return
        self._over = True
        response = self._response
        upstream = self._up
        assert response is not None
        assert upstream is not None
        self._up = None
        if self._reusable and self.request_done:
            upstream.stream.resume_reading()
            upstream.release(response.idle_seconds)
        else:
            upstream.discard()
        self._record(response.status)
        self._down.finished(response.client_keep_alive and self.request_done)

    def _switch(self, response: ResponsePlan, data: bytes) -> None:
        """101: from here on bytes both ways."""
        self._over = True
        upstream = self._up
        assert upstream is not None
        self._pass(response.head)
        upstream.user = None

        def ended(client_bytes: int, upstream_bytes: int) -> None:
            self._request_size += client_bytes
            self._response_size += upstream_bytes
            self._record(101)

        self._down.relay(upstream.stream, data, ended)

    # ---- ends of the upstream ----

    def _unsolicited(self) -> None:
        """Bytes after a complete response, while the request is still being sent."""
        self._down.engine.stats.upstream_unsolicited += 1
        self._reusable = False
        self._finish()

    def upstream_ended(self, error: Exception | None) -> None:
        """EOF (None) or a reset."""
        response = self._response
        if response is None:
            self._ended_before_response()
        elif self._response_done:
            self._reusable = False
            self._finish()
        elif response.body == Body.UNTIL_CLOSE and error is None:
            self._complete(b"0\r\n\r\n" if response.chunk_it else b"", excess=False)
        else:
            self._response_broken(RESPONSES["upstream-truncated"])

    def _ended_before_response(self) -> None:
        if self._held:
            self._response_broken(RESPONSES["upstream-truncated"])
            return
        if self._reused and self._resend is not None and not self._interims:
            self._down.engine.stats.replays += 1
            self._drop_upstream()
            self._unsent, self._resend = self._resend, None
            self._tried = ()
            assert self._decision.endpoint is not None
            self._go(self._decision.endpoint, reuse=False)
            return
        self._answer(502, "upstream-closed", "the upstream closed the connection without an answer", "UC")

    def _response_broken(self, refusal: Refusal) -> None:
        self._down.engine.stats.broken_responses += 1
        if self._response is None:
            flag = "UC" if refusal.reason == "upstream-truncated" else "UPE"
            self._answer(refusal.status, refusal.reason, refusal.detail, flag)
        else:
            self._abort("UC" if refusal.reason == "upstream-truncated" else "UPE", refusal.reason)

    def _drop_upstream(self, abort: bool = False) -> None:
        upstream, self._up = self._up, None
        if upstream is not None:
            if abort and upstream.connected:
                upstream.user = None
                upstream.stream.abort()
            else:
                upstream.discard()

    def _answer(self, status: int, reason: str, detail: str, flag: str) -> None:
        """Nothing of a response was sent: say what happened."""
        if self._over:
            return
        self._over = True
        self._drop_upstream(abort=not self.request_done)
        down = self._down
        keep = self._plan.keep_alive and self.request_done and not down.engine.draining
        self._response_size += down.fail(status, reason, detail, keep, self._plan)
        self._record(status, flag, reason)
        down.finished(keep)

    def _abort(self, flag: str, reason: str) -> None:
        assert self._response is not None
        if self._over:
            return
        self._over = True
        self._drop_upstream(abort=True)
        self._record(self._response.status, flag, reason)
        self._down.aborted()

    # ---- from the client's side ----

    def client_gone(self) -> None:
        """The client left before its response was complete."""
        if self._over:
            return
        self._over = True
        self._drop_upstream(abort=not self.request_done)
        self._record(self._response.status if self._response else 0, "DC", "client-gone")
        self._down.exchange = None
        self._down.discard()

    def pause_response(self) -> None:
        if self._up is not None:
            self._up.stream.pause_reading()

    def resume_response(self) -> None:
        if self._up is not None and self._up.connected:
            self._up.stream.resume_reading()

    def pause_writing(self) -> None:
        """The upstream takes no more for now."""
        self._down.stream.pause_reading()

    def resume_writing(self) -> None:
        if not self.request_done:
            self._down.stream.resume_reading()

    def _record(self, status: int, flag: str = "", reason: str = "") -> None:
        down = self._down
        down.engine.record(
            down,
            self._plan,
            self._decision,
            status,
            self._request_size,
            self._response_size,
            self._started,
            flag,
            reason,
        )
