"""One request from inside a pod: `python -m bench.probe URL` prints {"status", "headers", "length"} as JSON.

Before anything is measured, each path proves with it that it does what its name says.
"""

from __future__ import annotations

import http.client
import json
import sys
from urllib.parse import urlsplit


def probe(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=3)
    try:
        connection.request("GET", parts.path or "/")
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return {"status": response.status, "headers": headers, "length": len(response.read())}
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "headers": {}, "length": 0, "error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()


if __name__ == "__main__":
    json.dump(probe(sys.argv[1]), sys.stdout)
