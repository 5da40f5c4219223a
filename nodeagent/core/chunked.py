"""The chunked transfer coding (RFC 9112 7.1), decoded strictly: bytes in, payload pieces out.

    size [extensions] CRLF data CRLF ... 0 [extensions] CRLF trailer-section CRLF

A decoder never looks past the end of its message: `feed` says how many bytes it used.  Extensions are
checked and dropped; the trailer section is handed on as raw lines for the caller to parse as fields.
"""

from __future__ import annotations

MAX_SIZE_LINE = 256
"""Bytes of a chunk-size line with its extensions; RFC 9112 7.1.1 asks for a bound on their total length."""
MAX_EXTENSIONS = 16 * 1024
"""Bytes of extensions in one message, for the same reason."""
MAX_SIZE_DIGITS = 15
"""15 hex digits stay below 2**60: no reader's integer overflows."""

_HEX = frozenset(b"0123456789abcdefABCDEF")
_CONTROLS = bytes([*range(9), *range(10, 32), 127])


class ChunkError(ValueError):
    """Broken framing; `reason` is a key of the refusal tables without its "upstream-" prefix."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ChunkedDecoder:
    """State between feeds: bytes of data left in the chunk, or the start of an unfinished line."""

    __slots__ = ("_extensions", "_left", "_line", "_max_trailer", "_state", "done", "trailer")

    def __init__(self, max_trailer: int) -> None:
        self._state = _SIZE
        self._left = 0
        self._line = b""  # a line (or the CRLF after data) that has not arrived whole
        self._extensions = 0
        self._max_trailer = max_trailer
        self.done = False
        self.trailer = b""  # raw "name: value CRLF" lines once done

    def feed(self, data: bytes) -> tuple[list[bytes], int]:
        """Payload pieces in `data`, and how many bytes of it belong to this message.  Raises ChunkError."""
        held = len(self._line)
        if held:
            data, self._line = self._line + data, b""
        pieces: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._state is _DATA:
                at = self._take_data(data, at, pieces)
                continue
            end = self._step(data, at)
            if end < 0:
                self._line = data[at:]
                at = len(data)
            else:
                at = end
        return pieces, at - held

    def _take_data(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        piece = data[at : at + self._left]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._state = _END
        return at + len(piece)

    def _step(self, data: bytes, at: int) -> int:
        """Consume one line; returns where it ended, or -1 when it has not arrived whole."""
        if self._state is _END:
            return self._take_end(data, at)
        if self._state is _SIZE:
            return self._take_size(data, at)
        return self._take_trailer(data, at)

    def _take_end(self, data: bytes, at: int) -> int:
        got = data[at : at + 2]
        if got == b"\r\n":
            self._state = _SIZE
            return at + 2
        if got == b"\r":
            return -1
        raise ChunkError("chunk-end")

    def _take_size(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at, at + MAX_SIZE_LINE)
        if end < 0:
            _check_size_start(data[at : at + MAX_SIZE_LINE])
            if len(data) - at >= MAX_SIZE_LINE:
                raise ChunkError("chunk-extension")
            return -1
        self._left, extensions = parse_size_line(data[at:end])
        self._extensions += extensions
        if self._extensions > MAX_EXTENSIONS:
            raise ChunkError("chunk-extension")
        self._state = _DATA if self._left else _TRAILER
        return end + 1

    def _take_trailer(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self.done = True
            return at + 2
        end = data.find(b"\r\n\r\n", at)
        if (end if end >= 0 else len(data)) - at > self._max_trailer:
            raise ChunkError("trailer")
        if end < 0:
            if data.count(b"\n", at) != data.count(b"\r\n", at):
                raise ChunkError("trailer")  # its end will never come, and must not be waited for
            return -1
        self.trailer = data[at : end + 2]
        self.done = True
        return end + 4


_SIZE, _DATA, _END, _TRAILER = object(), object(), object(), object()


def parse_size_line(line: bytes) -> tuple[int, int]:
    """(size, bytes of extensions) of a chunk-size line given without its LF.  Raises ChunkError."""
    if not line.endswith(b"\r"):
        raise ChunkError("chunk-size")
    digits, semicolon, extensions = line[:-1].partition(b";")
    if semicolon:
        _check_extensions(extensions)
        digits = digits.rstrip(b" \t")  # RFC 9112 7.1.1: "bad whitespace" may precede the semicolon
    if not digits or len(digits) > MAX_SIZE_DIGITS or not _HEX.issuperset(digits):
        raise ChunkError("chunk-size")
    return int(digits, 16), len(extensions) + len(semicolon)


def _check_extensions(extensions: bytes) -> None:
    if not extensions.strip(b" \t") or extensions.translate(None, _CONTROLS) != extensions:
        raise ChunkError("chunk-extension")


def _check_size_start(start: bytes) -> None:
    """Refuse early what can no longer become a size line, so that a broken peer is not waited for."""
    digits = start.partition(b";")[0].rstrip(b" \t\r")
    if len(digits) > MAX_SIZE_DIGITS or not _HEX.issuperset(digits) or (start and not digits):
        raise ChunkError("chunk-size")


def encode_chunk(pieces: list[bytes]) -> bytes:
    """One chunk that holds all the pieces; no pieces, no bytes (an empty chunk would end the message)."""
    size = sum(map(len, pieces))
    return b"%x\r\n%b\r\n" % (size, b"".join(pieces)) if size else b""


LAST_CHUNK = b"0\r\n"
