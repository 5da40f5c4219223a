"""Pure decisions: no I/O, no clock, no randomness, no third-party import.

    vocabulary       model (what a configuration says), bounds, socket_buffers, buckets, addresses, hosts,
                     paths, durations, route_timeouts, traffic, sessions
    a request        decide (the reference) and judge (the same, prepared): matching, authorization, backends,
                     prepared_policies, dry_run (policies that are tried out), balance, route_index, recent, mirrors
    traffic policies treatment (which apply), traffic (what they say), ledger (limits that workers share), ledger_keys,
                     prepaid (many requests at once), retries, breaker, rate_limits, balance, ring,
                     health (of endpoints), outlier (what changes it), tallies (for success rates), faults,
                     policy_refusals; treatment_text (for people)
    blast radius     fairness (whose turn), overload (what is refused or ended), bounds, closed_caps (of 0)
    a message        lines, fields, framing, filters, cors, request_plan, response_plan, chunked, refusals
    the kernel maps  kernel_state (what they should hold), verdicts, kernel_plan (writes in order), coverage
    a change         differences, layers (tables whose copies cost what was written)
    on Kubernetes    api_group (of our kinds), own_daemonset (is this our end?), own_taint
    readiness        canary (what the fate of a connect says)
    pods that come   pod_cgroup (what /proc/PID/cgroup says), unclassified (what they get until they are known),
                     located (their addresses)
"""
