"""Send requests on keep-alive connections for a while; print one line per response.

    python requester.py URL SECONDS CONNECTIONS [--method M] [--body N] [--interval S] [--reconnect]

A line is `MONOTONIC STATUS POD REASON` (POD from the JSON body, REASON from x-mesh-reason, "-" when
absent); a failed exchange is `MONOTONIC error NAME -`.  CLOCK_MONOTONIC is the machine's, so the
lines compare with times taken in the test.  Standard library only: http.client is the independent peer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
import urllib.parse


def pod_of(body: bytes) -> str:
    return str(json.loads(body).get("pod", "-")) if body.startswith(b"{") else "-"


def exchange(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> str:
    connection.request(method, path, body=body)
    response = connection.getresponse()
    payload = response.read()
    return f"{response.status} {pod_of(payload)} {response.headers.get('x-mesh-reason', '-')}"


def worker(options: argparse.Namespace, deadline: float, lines: list[str]) -> None:
    url = urllib.parse.urlsplit(options.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=10)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    body = b"x" * options.body if options.body else None
    while time.monotonic() < deadline:
        try:
            outcome = exchange(connection, options.method, path, body)
        except (OSError, http.client.HTTPException) as error:
            outcome = f"error {type(error).__name__} -"
            connection.close()
        if options.reconnect:
            connection.close()
        lines.append(f"{time.monotonic():.6f} {outcome}")
        if options.interval:
            time.sleep(options.interval)
    connection.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("connections", type=int)
    parser.add_argument("--method", default="GET")
    parser.add_argument("--body", type=int, default=0)
    parser.add_argument("--interval", type=float, default=0.0)
    parser.add_argument("--reconnect", action="store_true")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    lines: list[list[str]] = [[] for _ in range(options.connections)]
    threads = [threading.Thread(target=worker, args=(options, deadline, mine)) for mine in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.stdout.write("\n".join(sorted(line for mine in lines for line in mine)) + "\n")


if __name__ == "__main__":
    main()
