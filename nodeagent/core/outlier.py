"""Outlier detection: which endpoints of a backend get no requests for a while, as one value that workers share.

An endpoint is *admitted*, *ejected* until its time is over, or *probed*: exactly one request was let through after
that time, and its outcome re-admits the endpoint or ejects it again, for longer.

    admitted --threshold reached, or success rate below the others'--> ejected --time over, `take_probe`--> probed
    probed --success--> admitted          probed --failure--> ejected          probed --lost--> may be probed again

Only endpoints in trouble are in the state, at most MAX_TROUBLED.  Every function returns a new Health, or the very
same object when nothing changes: then nothing needs to be written.  Times are ns of one clock for all workers.
Algorithm and defaults are Envoy's (outlier_detection.proto, split_external_local_origin_errors), but for the probe.
So that little is written, counts stop at their threshold, and ejections fade without being written.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from dataclasses import replace
from math import fsum, sqrt
from typing import NamedTuple

from nodeagent.core.health import MAX_EJECTIONS, MAX_TROUBLED, NO_TROUBLE, Health, Status, Trouble, bounded, changed
from nodeagent.core.traffic import OutlierDetection, SuccessRate

MS = 1_000_000
LEAST_PROBE_TIME = 1000 * MS


class Kind(enum.Enum):
    SERVER_ERROR = "5xx"
    GATEWAY_ERROR = "gateway-error"  # 502, 503, 504: a 5xx too
    LOCAL_ORIGIN = "local-origin"  # no response: connect failure, reset, timeout


class Probe(NamedTuple):
    state: Health
    name: int  # to be told with the outcome: late ones of a lost probe do not count


def kind_of(status: int) -> Kind | None:
    """Of a response; None = a success as far as outlier detection goes."""
    if status in {502, 503, 504}:
        return Kind.GATEWAY_ERROR
    return Kind.SERVER_ERROR if status >= 500 else None


_OF_ENDPOINT = frozenset({errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN})


def blames_endpoint(error: OSError) -> bool:
    """Of a connect that failed.  Others tell of the caller's pod or this node: no port, socket, route or permission.

    One pod must not take an endpoint away from all the others by what it lacks itself.
    """
    return error.errno in _OF_ENDPOINT


# ---- before a request ----


def take_probe(state: Health, config: OutlierDetection, endpoint: int, now: int) -> Probe | None:
    """Let one request through; None when none is due.  Lost after base_ejection_time without `give_back_probe`."""
    trouble = state.troubled.get(endpoint)
    if trouble is None or trouble.status is Status.ADMITTED or now < trouble.at:
        return None
    name = now + max(config.base_ejection_time * MS, LEAST_PROBE_TIME)
    return Probe(changed(state, endpoint, trouble._replace(status=Status.PROBED, at=name)), name)


def give_back_probe(state: Health, endpoint: int, now: int, probe: int) -> Health:
    """The probe ended without an outcome (the client left): another may go at once."""
    trouble = state.troubled.get(endpoint, NO_TROUBLE)
    if not _is_probe(trouble, probe):
        return state
    return changed(state, endpoint, trouble._replace(status=Status.EJECTED, at=now))


# ---- after a request ----


def after_success(state: Health, config: OutlierDetection, endpoint: int, now: int, probe: int = 0) -> Health:
    """`probe`: its name, when the request was one.  Requests sent before an ejection say nothing of what is now."""
    trouble = state.troubled.get(endpoint)
    if trouble is None:
        return state
    if trouble.status is not Status.ADMITTED:
        return _readmitted(state, endpoint, trouble, now) if _is_probe(trouble, probe) else state
    if not _ejections(trouble, config, now):
        return replace(state, troubled={key: one for key, one in state.troubled.items() if key != endpoint})
    calm = trouble._replace(server_errors=0, gateway_errors=0, local_failures=0)
    return state if calm == trouble else changed(state, endpoint, calm)


def after_failure(
    state: Health,
    config: OutlierDetection,
    endpoint: int,
    kind: Kind,
    now: int,
    endpoints: frozenset[int],
    probe: int = 0,
) -> Health:
    """`endpoints`: keys of all that the state is about; the others in it are forgotten, for they have gone."""
    if endpoint not in endpoints:
        return state
    trouble = state.troubled.get(endpoint, NO_TROUBLE)
    if trouble.status is not Status.ADMITTED:
        return _after_probe(state, config, endpoint, kind, now, probe)
    counted = _counted(trouble, config, kind)
    if _is_outlier(counted, config):
        state = _present(state, config, now, endpoints)
        if _may_eject(state, config, len(endpoints)):
            counted = _ejected(counted, config, now)
    if counted == trouble:
        return state
    after = bounded(_present(changed(state, endpoint, counted), config, now, endpoints))
    return after if endpoint in after.troubled or endpoint in state.troubled else state  # no room: nothing to write


def evaluate_success_rate(
    state: Health,
    config: OutlierDetection,
    tallies: Mapping[int, tuple[int, int]],
    now: int,
    endpoints: frozenset[int],
) -> Health:
    """Once per interval: eject those far below the others, the worst first.

    `tallies`: endpoint -> (requests, successes) of the interval.  Who gets a new state back (by its `evaluated`) starts
    to count afresh.
    """
    if config.success_rate is None or now - state.evaluated < config.interval * MS:
        return state
    state = replace(_present(state, config, now, endpoints), evaluated=now)
    for endpoint in _far_below(state, config.success_rate, tallies, endpoints):
        if not _may_eject(state, config, len(endpoints)):
            break
        trouble = state.troubled.get(endpoint, NO_TROUBLE)
        state = bounded(changed(state, endpoint, _ejected(trouble, config, now)))
    return state


def _far_below(
    state: Health, rule: SuccessRate, tallies: Mapping[int, tuple[int, int]], endpoints: frozenset[int]
) -> list[int]:
    """Admitted endpoints with enough requests and a rate below mean - factor x deviation, the lowest first."""
    rates = [
        (successes / requests, endpoint)
        for endpoint, (requests, successes) in tallies.items()
        if requests >= max(1, rule.request_volume) and endpoint in endpoints
        if state.troubled.get(endpoint, NO_TROUBLE).status is Status.ADMITTED
    ]
    if len(rates) < max(1, rule.minimum_hosts):
        return []
    mean = fsum(rate for rate, _ in rates) / len(rates)
    deviation = sqrt(fsum((rate - mean) ** 2 for rate, _ in rates) / len(rates))
    threshold = mean - rule.stdev_factor / 1000 * deviation - _ROUNDING
    return [endpoint for rate, endpoint in sorted(rates) if rate < threshold]


_ROUNDING = 1e-9
"""Equal rates have a mean that may be above each of them by a bit."""


def within_limit(state: Health, config: OutlierDetection, now: int, endpoints: frozenset[int]) -> Health:
    """After a change of the endpoints or of `config`: of those that are out too many, the first to come back do so."""
    out = sorted((one.at, key) for key, one in state.troubled.items() if key in endpoints and _is_out(one))
    for _, endpoint in out[: max(0, len(out) - ejection_limit(config, len(endpoints)))]:
        state = _readmitted(state, endpoint, state.troubled[endpoint], now)
    return state


# ---- one endpoint ----


def _is_out(trouble: Trouble) -> bool:
    return trouble.status is not Status.ADMITTED


def _is_probe(trouble: Trouble, probe: int) -> bool:
    return trouble.status is Status.PROBED and trouble.at == probe


def _after_probe(state: Health, config: OutlierDetection, endpoint: int, kind: Kind, now: int, probe: int) -> Health:
    trouble = state.troubled[endpoint]
    if not _is_probe(trouble, probe):
        return state
    if not _matters(config, kind):
        return _readmitted(state, endpoint, trouble, now)
    return changed(state, endpoint, _ejected(trouble, config, now))


def _matters(config: OutlierDetection, kind: Kind) -> bool:
    """False for an error that could not have ejected: where only unreachable endpoints are ejected, any response."""
    if kind is Kind.LOCAL_ORIGIN or config.consecutive_5xx or config.success_rate is not None:
        return True
    return kind is Kind.GATEWAY_ERROR and config.consecutive_gateway_errors > 0


def _counted(trouble: Trouble, config: OutlierDetection, kind: Kind) -> Trouble:
    """A response ends a row of local failures; a 5xx of another kind ends one of gateway errors."""
    if kind is Kind.LOCAL_ORIGIN:
        threshold = config.consecutive_local_origin_failures
        return trouble._replace(local_failures=min(trouble.local_failures + 1, threshold))
    gateway = trouble.gateway_errors + 1 if kind is Kind.GATEWAY_ERROR else 0
    return trouble._replace(
        server_errors=min(trouble.server_errors + 1, config.consecutive_5xx),
        gateway_errors=min(gateway, config.consecutive_gateway_errors),
        local_failures=0,
    )


def _is_outlier(trouble: Trouble, config: OutlierDetection) -> bool:
    return (
        0 < config.consecutive_5xx <= trouble.server_errors
        or 0 < config.consecutive_gateway_errors <= trouble.gateway_errors
        or 0 < config.consecutive_local_origin_failures <= trouble.local_failures
    )


def _ejected(trouble: Trouble, config: OutlierDetection, now: int) -> Trouble:
    """The n-th time for n x base_ejection_time; n stops where the time does, so that it fades in a bounded time too."""
    base = max(1, config.base_ejection_time)
    longest = max(base, config.max_ejection_time)
    times = min(_ejections(trouble, config, now) + 1, -(-longest // base), MAX_EJECTIONS)
    return Trouble(Status.EJECTED, now + min(times * base, longest) * MS, times)


def _ejections(trouble: Trouble, config: OutlierDetection, now: int) -> int:
    """How many count: one less for each interval since the endpoint was admitted again."""
    if trouble.status is not Status.ADMITTED or not trouble.ejections:
        return trouble.ejections
    return max(0, trouble.ejections - (now - trouble.at) // max(MS, config.interval * MS))


# ---- all of them ----


def ejection_limit(config: OutlierDetection, total: int) -> int:
    """How many of `total` endpoints may be out at a time, probed ones included."""
    return min(MAX_TROUBLED, max(1, total * config.max_ejection_percent // 100))


def _may_eject(state: Health, config: OutlierDetection, total: int) -> bool:
    out = sum(map(_is_out, state.troubled.values()))
    return out < ejection_limit(config, total)


def _readmitted(state: Health, endpoint: int, trouble: Trouble, now: int) -> Health:
    return changed(state, endpoint, Trouble(Status.ADMITTED, now, trouble.ejections))


def _present(state: Health, config: OutlierDetection, now: int, endpoints: frozenset[int]) -> Health:
    """Without endpoints that have gone, and without trouble that has faded."""
    kept = {key: one for key, one in state.troubled.items() if key in endpoints and not _is_over(one, config, now)}
    return state if len(kept) == len(state.troubled) else replace(state, troubled=kept)


def _is_over(trouble: Trouble, config: OutlierDetection, now: int) -> bool:
    counts = trouble.server_errors or trouble.gateway_errors or trouble.local_failures
    return trouble.status is Status.ADMITTED and not counts and not _ejections(trouble, config, now)
