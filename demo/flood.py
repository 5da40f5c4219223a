"""Runs inside a pod: COUNT requests at once, each on a connection of its own; says in JSON how each was answered.

Usage: flood.py ADDRESS PORT PATH COUNT.  Output: [[status, x-mesh-reason, milliseconds], ...]; status 0: no answer.
"""

import http.client
import json
import sys
import threading
import time


def main() -> None:
    address, port, path, count = sys.argv[1:]
    rows: list[tuple[int, str, float]] = []
    start = threading.Barrier(int(count))
    threads = [threading.Thread(target=_ask, args=(address, int(port), path, start, rows)) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump(rows, sys.stdout)


def _ask(address: str, port: int, path: str, start: threading.Barrier, rows: list[tuple[int, str, float]]) -> None:
    connection = http.client.HTTPConnection(address, port, timeout=20)
    start.wait()
    began = time.monotonic()
    status, reason = 0, ""
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        reply.read()
        status, reason = reply.status, reply.getheader("x-mesh-reason") or ""
    except OSError:
        pass  # status 0 says so
    finally:
        connection.close()
    rows.append((status, reason, 1000 * (time.monotonic() - began)))


if __name__ == "__main__":
    main()
