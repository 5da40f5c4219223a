"""The mesh's counts, in the shape of the clients' own."""

from __future__ import annotations

import collections
import time

from demo.clients import Clients
from demo.shop import LEDGER
from tests.testbed import Agent

Key = tuple[str, str, str]
EXPECTED_DENIED = 2  # chapters.denied_by_the_kernel: one by python, one by curl


def settled(
    agent: Agent, clients: Clients, seconds: float = 2.0
) -> tuple[collections.Counter[Key], collections.Counter[Key]]:
    """(clients' counts, /metrics' counts) of requests through the proxy, once they agree or after `seconds`.

    A client may read a response a moment before the worker writes the count down.
    """
    ours = collections.Counter({key: n for key, n in clients.counts.requests.items() if key[1] != LEDGER.label})
    deadline = time.monotonic() + seconds
    while True:
        theirs = requests(agent)
        if ours == theirs or time.monotonic() > deadline:
            return ours, theirs
        time.sleep(0.1)


def requests(agent: Agent) -> collections.Counter[Key]:
    found: collections.Counter[Key] = collections.Counter()
    for sample in agent.metrics().select("nodeagent_requests_total"):
        labels = sample.labels
        found[labels["source_workload"], labels["destination_service"], labels["response_code"]] += int(sample.value)
    return found


def denied_connects(agent: Agent) -> float:
    return agent.metrics().total("nodeagent_authz_denied_total", layer="connect", destination_service=LEDGER.label)
