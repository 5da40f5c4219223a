"""Hold connections open and report when and how each one ends.

    python holder.py ADDRESS PORT COUNT SECONDS [--send S]

Opens COUNT connections, prints `held COUNT`, and then one line `MONOTONIC HOW` for each that ends within
SECONDS: HOW is EOF, an errno name, or `garbled` when an echo came back wrong.  `--send S` sends a line
every S seconds on each and expects it echoed.  At the end prints `alive N`.  Standard library only.
"""

from __future__ import annotations

import argparse
import errno
import selectors
import socket
import sys
import time

LINE = b"held\n"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def how_it_ended(sock: socket.socket) -> str | None:
    """None while the connection lives."""
    try:
        data = sock.recv(4096)
    except BlockingIOError:
        return None
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    if not data:
        return "EOF"
    return None if not data.replace(LINE, b"") else "garbled"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--send", type=float, default=0.0)
    options = parser.parse_args()
    selector = selectors.DefaultSelector()
    for _ in range(options.count):
        sock = socket.create_connection((options.address, options.port), 5)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
    say(f"held {options.count}")
    deadline = time.monotonic() + options.seconds
    next_send = time.monotonic()
    while (now := time.monotonic()) < deadline and selector.get_map():
        if options.send and now >= next_send:
            next_send = now + options.send
            for key in list(selector.get_map().values()):
                try:
                    key.fileobj.send(LINE)  # type: ignore[union-attr]  # a socket: registered above
                except OSError:
                    continue  # its end is reported when it is read
        for key, _ in selector.select(min(0.05, max(0.0, deadline - now))):
            sock = key.fileobj  # type: ignore[assignment]
            ended = how_it_ended(sock)
            if ended:
                say(f"{time.monotonic():.6f} {ended}")
                selector.unregister(sock)
                sock.close()
    say(f"alive {len(selector.get_map())}")


if __name__ == "__main__":
    main()
