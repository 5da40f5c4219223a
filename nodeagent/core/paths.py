"""The one normal form of a request path: what rules judge and what is forwarded.

Unreserved escapes are decoded, other escapes get upper-case digits, raw characters that a path may
not hold are escaped, slashes are merged and dot segments removed (RFC 3986 6.2.2, 5.2.4).  What
servers are known to read in two ways (an escaped slash, backslash or NUL; a broken escape) has no
normal form: `PathError`.

`respell` goes one step further for comparisons only: `%3A` and `:` are the same resource to most
servers, so a rule that says `/a:b` must see `/a%3Ab`.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,;=:@-][A-Za-z0-9._~!$&'()*+,;=:@-]*)+/?")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_NOT_A_PATH_CHARACTER = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@/%-]")
_SLASHES = re.compile(r"//+")
_PARAMETERS = re.compile(r";[^/]*")
_REFUSED_ESCAPES = {"%2F": "escaped slash", "%5C": "escaped backslash", "%00": "escaped NUL"}
_UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_SUB_DELIMITERS = "!$&'()*+,;=:@"
_DECODED = {f"%{ord(character):02X}": character for character in _UNRESERVED}
_RESPELLED = {f"%{ord(character):02X}": character for character in _SUB_DELIMITERS}


class PathError(ValueError):
    """The path has no single reading; `reason` is one short phrase for the client and the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalize(path: str) -> str:
    """Return the normal form of `path` (no query), or raise PathError.  `normalize(normalize(p)) == normalize(p)`."""
    if _PLAIN.fullmatch(path) or path in ("/", "*"):
        return path
    if not path.startswith("/"):
        raise PathError("path does not start with a slash")
    if _BROKEN_ESCAPE.search(path):
        raise PathError("broken percent escape in path")
    path = _NOT_A_PATH_CHARACTER.sub(_escape_raw, path)
    path = _ESCAPE.sub(_normal_escape, path)
    return _without_dots(_SLASHES.sub("/", path))


def spellings(path: str) -> tuple[str, ...]:
    """Every way a server may read a normal form: as it is, with `respell`, and without `;parameters`."""
    if "%" not in path and ";" not in path:
        return (path,)
    respelled = respell(path)
    plain = _SLASHES.sub("/", _PARAMETERS.sub("", respelled))  # a segment of parameters alone leaves nothing
    return tuple(dict.fromkeys((path, respelled, plain or "/")))


def respell(path: str) -> str:
    """Decode the escapes of `!$&'()*+,;=:@` in a normal form: two spellings of one resource become equal."""
    if "%" not in path:
        return path
    return _ESCAPE.sub(lambda match: _RESPELLED.get(match[0], match[0]), path)


def _escape_raw(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\\":
        raise PathError("backslash in path")
    if character in "?#":
        raise PathError("query or fragment mark in path")
    if not " " < character < "\x7f":
        raise PathError("control, space or non-ASCII byte in path")
    return f"%{ord(character):02X}"


def _normal_escape(match: re.Match[str]) -> str:
    escape = match[0].upper()
    if escape in _REFUSED_ESCAPES:
        raise PathError(f"{_REFUSED_ESCAPES[escape]} in path")
    return _DECODED.get(escape, escape)


def _without_dots(path: str) -> str:
    """Remove `.` and `..` from a path that starts with "/" and has no empty inner segment."""
    kept: list[str] = []
    segments = path[1:].split("/")
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(_whole(segment))
    ends_in_dots = segments[-1] in (".", "..")
    if ends_in_dots and kept and kept[-1] != "":
        kept.append("")
    return "/" + "/".join(kept)


def _whole(segment: str) -> str:
    """Refuse `..;x`: some servers cut the parameter first and then see a dot segment."""
    if segment.startswith((".;", "..;", ".%3B", "..%3B")):
        raise PathError("dot segment with parameters in path")
    return segment
