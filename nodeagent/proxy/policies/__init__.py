"""Requests under policies: what each takes of their limits, where it goes, and what it would have met in a dry run.
Asked by the exchanges; knows no connection and no loop.

    prepared         handling (a Treatment), stickiness (of a client to an endpoint)
    letting in       gate; what saves it calls of the ledger: reserve (places), prepayments (tokens)
    one request      passage (what it holds), shadow (its dry run)
    a backend        cluster: balancers, endpoint_health, connection_caps, lease (of one connection)
"""
