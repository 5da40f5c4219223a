"""What the kernel may keep for one data socket; apart from `bounds`, because the broker loads nothing else of them."""

from __future__ import annotations

LARGEST_RECEIVE_BUFFER = 1024 * 1024
"""SO_RCVBUF of data sockets: what a peer can have sent that nobody takes.  Enough for 10 Gbit/s at a millisecond; the
kernel's own tuning goes to 6 MB, which 200 stuck connections would turn into 1.2 GB."""
LARGEST_UNSENT = 128 * 1024
"""TCP_NOTSENT_LOWAT: what may wait to be sent before the socket stops being writable."""
