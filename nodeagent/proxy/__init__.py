"""The data plane: a *Downstream* (a pod's connection) has an *Exchange* (one request and its response) at a time,
which uses an *Upstream* (a connection to an endpoint) from the *Pool*; a *Relay* passes bytes it does not read.
The *Engine* is what they share.  The worker process runs them; the broker process makes their sockets.

    from the client   acceptor, originals, downstream, head_wait, request_heads, http1, view
    to the endpoint   exchange, timed_exchange, request_body, response, usual_heads, upstream, pool, sockets;
                      mirror (copies)
    under policies    policies (a package), managed_exchange
    not HTTP          relayed (a connection), relay (bytes both ways)
    of each pod       tenants, lane, budgets; shedding, memory
    shared            engine, stream, data_loop, timeouts, deadlines, patience, replies, accounting, stats, stalls
    processes         worker, agent_channel, frames, updates; broker, broker_wire, broker_sockets, pod_listener,
                      pulse; sandbox
"""
