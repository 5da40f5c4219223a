"""The agent process: it assembles everything and touches no request.

Five nouns: the *Agent* owns one instance on this node; a *Worker* is a supervised proxy process;
the *Broker* makes sockets inside pods; an *EnrolledPod* is a workload whose namespace we hold;
a *Generation* is a compiled configuration, in force once workers acknowledged it and maps carry it.

    assembly          agent, parts, settings, preflight, lease, own_cgroup, host_limits, on_loop, upkeep, rhythm
                      succession (agents of several pods on one node)
    processes         fleet: supervisor, health, worker, worker_index, control, predecessors; broker_client, seqpacket;
                      child (how each is started)
    configuration     configuration -> programming (enrolment, node_kernel) -> settling (netns_connections, netns_child)
                      object_source (where objects come from; the client of an API server)
                      garbage (when it is collected), ledger_sweep (limits that nothing names any more)
    pods              pod_finder: sandbox (whose namespace is the pod's); bystanders (known and left alone)
    on Kubernetes     membership: own_objects (our DaemonSet and Node); removal
    what it tells     reporting (to the API server; nodeagent.kube.telling does it), left_out (pods not in the mesh)
    is it so          canary (hooks redirect and workers answer: tried)
    what it answers   admin_view: views (policy_rows, condition_rows, rule_text), explain, readings,
                      observe_stream (observers, record_filter); remembered (what is not asked twice in a moment)
"""
