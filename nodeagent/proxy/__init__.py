"""The data plane: a *Downstream* (a pod's connection) has an *Exchange* (one request and its response) at a time,
which uses an *Upstream* (a connection to an endpoint) from the *Pool*; a *Relay* passes bytes it does not read.
The *Engine* is what they share.  The worker process runs them; the broker process makes their sockets.
"""
