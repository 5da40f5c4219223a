"""Plain counters and gauges of one worker, by name, as `stats` reports them once a second if they changed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """Counters since the worker started; all only grow."""

    accepted: int = 0
    requests: int = 0
    relayed: int = 0  # connections passed on as bytes: ports that are not HTTP
    reset_no_original: int = 0  # no original destination: not redirected by us
    reset_unknown_pod: int = 0
    reset_over_limit: int = 0  # connection cap of the worker
    reset_over_pod_limit: int = 0
    reset_over_server_limit: int = 0  # relayed connections to a pod that has as many as it may
    unknown_destination: int = 0  # original destination not in the configuration: relayed to it
    accept_paused: int = 0  # out of descriptors: accepting rested
    refused_requests: int = 0  # malformed, or past a bound
    broken_responses: int = 0
    replays: int = 0  # requests sent again because a reused connection died under them
    connect_retries: int = 0  # connects tried at another endpoint
    retries: int = 0  # tries that followed a failed one, as a policy or route asks
    ejections: int = 0  # endpoints that outlier detection took out, found by this worker
    outliers_lost: int = 0  # outcomes that outlier detection could not write down: no room, or too many at once
    dry_run: int = 0  # outcomes of policies in DryRun
    upstream_opened: int = 0
    upstream_discarded: int = 0  # pooled connections found ended at reuse
    upstream_not_kept: int = 0  # closed after their request: no room among the idle ones
    upstream_gave_way: int = 0  # idle ones closed for one of a pod that had fewer
    upstream_unsolicited: int = 0  # upstreams that said more than they were asked
    mirrored: int = 0  # copies of requests sent
    mirror_failed: int = 0  # copies without a whole answer: not connected, broken off, too slow, too large
    mirror_denied: int = 0  # copies not sent: a policy of the mirror denies them
    mirror_too_large: int = 0  # copies not sent: the body is too large to be kept
    mirror_skipped: int = 0  # copies not sent: too many under way, no endpoint, or the request broke off
    shed_pods: int = 0  # times a pod's connections were ended for want of memory
    shed_connections: int = 0
    audits: int = 0
    events_lost: int = 0
    internal_errors: int = 0

    def as_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}  # asdict takes five times as long
