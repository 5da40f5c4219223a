"""Runs as a pod's program: asks every URL again and again, each time on a new connection, and prints what came of it.

    python3 watcher.py SECONDS_BETWEEN NAME=URL ...     ->  lines "UNIX_TIME NAME OUTCOME"

Ends asking when the file STOP appears.  OUTCOME is the status, or the name of the error.  Standard library only.
"""

from __future__ import annotations

import errno
import http.client
import os
import sys
import time
import urllib.parse

STOP = "/tmp/stop"  # once this file is there, nothing more is asked


def outcome(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        response.read()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    except http.client.HTTPException as error:
        return type(error).__name__
    finally:
        connection.close()
    return str(response.status)


def main() -> None:
    pause = float(sys.argv[1])
    asked = [argument.partition("=") for argument in sys.argv[2:]]
    while not os.path.exists(STOP):
        for name, _, url in asked:
            print(f"{time.time():.3f} {name} {outcome(url)}", flush=True)
        time.sleep(pause)
    time.sleep(3600)  # a pod that has ended would be started again


if __name__ == "__main__":
    main()
