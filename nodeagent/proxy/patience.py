"""How long a connection may do nothing, in each of its states, and how it ends then.

    waiting for a request   idle_seconds    closed in good order
    a request under way     stall_seconds   504, or a reset once part of the response was sent
    bytes both ways         idle_seconds    reset
    last answer sent        linger_seconds  closed; while the client still takes bytes it gets the time for it
"""

from __future__ import annotations

from nodeagent.proxy.downstream import Downstream, State
from nodeagent.proxy.relay import Relay
from nodeagent.proxy.relayed import RelayedConnection


def end_if_idle(connection: Downstream | RelayedConnection, idle_before: float, stalled_before: float) -> None:
    """Times are on the engine's clock: end what waits since the first, or has not moved since the second."""
    if isinstance(connection, RelayedConnection):
        connection.end_if_idle(idle_before)
    elif connection.relayed is not None:
        _end_idle_relay(connection, connection.relayed, idle_before)
    elif connection.state is State.HEAD and not connection.stream.backed_up:
        if connection.used < idle_before and connection.is_waiting:
            connection.close()
    elif connection.used < stalled_before and connection.state is not State.LINGER:
        _end_stalled(connection)


def _end_stalled(down: Downstream) -> None:
    if down.exchange is not None:
        down.exchange.stalled()
    else:
        down.drop()


def _end_idle_relay(down: Downstream, relay: Relay, before: float) -> None:
    if relay.moved != down.moved:
        down.moved = relay.moved
        down.used = down.engine.tick
    elif down.used < before:
        relay.finish(abort=True)


def linger_timed_out(down: Downstream) -> None:
    """A client that still takes the answer gets the time for it; one that does not is reset, not ended."""
    engine, unsent = down.engine, down.stream.unsent
    if unsent < down.unsent_before:
        down.unsent_before = unsent
        down.used = engine.tick
    if unsent and down.used > engine.tick - engine.bounds.stall_seconds:
        engine.lingering.start(down, engine.now())
    else:
        down.drop()
