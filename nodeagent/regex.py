"""User regular expressions: RE2 only (linear time), whole-string match, size capped.

The one importer of re2.  Its Python-level pattern objects cost 8 us a match; the extension class
they wrap costs 1 us, so that is what a compiled test holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from re2 import _re2

MAX_PATTERN = 1024  # characters, as HTTPRoute's own limit
MAX_MEMORY = 1 << 20  # bytes for one compiled pattern and its caches; RE2 falls back to its NFA beyond


class RegexError(ValueError):
    """The pattern is too long, is not RE2 syntax or compiles to more than MAX_MEMORY."""


@functools.lru_cache(maxsize=4096)
def compile_regex(pattern: str) -> Callable[[str], bool]:
    """Return a test for "the whole text matches".  Raises RegexError, saying what is wrong."""
    if len(pattern) > MAX_PATTERN:
        raise RegexError(f"is {len(pattern)} characters long; at most {MAX_PATTERN} are allowed")
    compiled = _re2.RE2(pattern.encode(), _options())
    if not compiled.ok():
        raise RegexError(f"is not a valid RE2 expression: {compiled.error().decode(errors='replace')}")
    match, anchor = compiled.Match, _re2.RE2.Anchor.ANCHOR_BOTH

    def matches(text: str) -> bool:
        data = text.encode(errors="surrogateescape")
        return bool(match(anchor, data, 0, len(data))[0][0] >= 0)

    return matches


def _options() -> _re2.RE2.Options:
    options = _re2.RE2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    return options
