"""Send requests read from stdin, each on a connection of its own; print what came of each, as JSON.

    python asker.py < [{"address", "port", "method", "path", "headers": [[name, value], ...]}, ...]

An outcome is {"errno"} when connect() failed, {"connected": true} for a request without a method (only the
connection is tried), else {"status", "reason", "pod"}.  Standard library only.
"""

from __future__ import annotations

import errno
import http.client
import json
import socket
import sys
from typing import Any


def ask(request: dict[str, Any]) -> dict[str, Any]:
    try:
        sock = socket.create_connection((request["address"], request["port"]), 10)
    except OSError as error:
        return {"errno": errno.errorcode.get(error.errno or 0, str(error))}
    with sock:
        if not request["method"]:
            return {"connected": True}
        return exchange(sock, request)


def exchange(sock: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("unused")
    connection.sock = sock
    connection.putrequest(request["method"], request["path"], skip_host=True, skip_accept_encoding=True)
    for name, value in request["headers"]:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    pod = json.loads(body)["pod"] if body.startswith(b"{") else ""
    return {"status": answer.status, "reason": answer.headers.get("x-mesh-reason", ""), "pod": pod}


def main() -> None:
    json.dump([ask(request) for request in json.load(sys.stdin)], sys.stdout)


if __name__ == "__main__":
    main()
