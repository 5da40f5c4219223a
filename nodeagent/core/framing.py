"""What requests and responses share of framing (RFC 9112 6 to 9); the plans: request_plan and response_plan.

Pure: parsed heads in, plans out.  A plan's head is always written anew from the parsed fields, in their order
and with their names as received, so that the next reader cannot see another message than the one judged.
"""

from __future__ import annotations

import enum

MAX_LENGTH_DIGITS = 18  # below 2**60
NOTHING: frozenset[bytes] = frozenset()
KNOWN_OPTIONS = frozenset((b"close", b"keep-alive", b"upgrade", b"te"))
"""Connection options that are no field names to drop."""


class Body(enum.IntEnum):
    """How a message's end is known."""

    NONE = 0
    LENGTH = 1
    CHUNKED = 2
    UNTIL_CLOSE = 3  # responses only
