"""Runs inside a pod: COUNT requests over keep-alive connections by http.client; says in JSON what came back.

Usage: client.py METHOD ADDRESS PORT PATH COUNT.  "{n}" in PATH becomes the request's number.
Output: {"codes": {"200": 1000}, "pods": {"catalog-v1-1": 800}, "reasons": {}, "errors": {"EPERM": 1}}.
"""

import collections
import errno
import http.client
import json
import sys

REQUESTS_PER_CONNECTION = 100
Tallies = dict[str, "collections.Counter[str]"]


def main() -> None:
    method, address, port, path, count = sys.argv[1:]
    tallies: Tallies = {name: collections.Counter() for name in ("codes", "pods", "reasons", "errors")}
    done = 0
    while done < int(count):
        batch = range(done, min(done + REQUESTS_PER_CONNECTION, int(count)))
        _one_connection(method, (address, int(port)), [path.replace("{n}", str(number)) for number in batch], tallies)
        done = batch.stop
    json.dump(tallies, sys.stdout)


def _one_connection(method: str, address: tuple[str, int], paths: list[str], tallies: Tallies) -> None:
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        for path in paths:
            connection.request(method, path, headers={"Host": "shop.test"})
            reply = connection.getresponse()
            body = reply.read()
            tallies["codes"][str(reply.status)] += 1
            if reason := reply.getheader("x-mesh-reason"):
                tallies["reasons"][reason] += 1
            elif reply.status == http.client.OK:
                tallies["pods"][json.loads(body)["pod"]] += 1
    except OSError as problem:
        tallies["errors"][errno.errorcode.get(problem.errno or 0, type(problem).__name__)] += 1
    finally:
        connection.close()


if __name__ == "__main__":
    main()
