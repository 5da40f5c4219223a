/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Every map, declared once.  The compiler child reports these declarations;
 * nodeagent/kernel/instance.py creates and pins the maps, or takes over pins
 * of the same shape.  Hashes are not preallocated: an idle node should not pay
 * for the sizes below.  But slots are (3 MiB), since a request that a limit lets
 * through must not fail for want of memory, and an LRU hash always is (buckets:
 * 5 MiB).  Up to Linux 6.0 nodeagent/kernel/loader.py preallocates the rest of
 * the ledger, too (5 MiB): its programs may sleep, and get no other there.
 */

/* 0 -> node-wide settings.  Writer: agent.  Reader: connect. */
BPF_F_TABLE("array", u32, struct na_config, config, 1, 0);

/* 0 -> 1 = every connect passes.  A map of its own, so that the CLI and the agent overwrite nothing of each other. */
BPF_F_TABLE("array", u32, u32, bypass, 1, 0);

/*
 * cgroup v2 id -> 1: whose sockets are never touched, the agents' own.  Several while one agent replaces another.
 * Writer: agent, each its own.  Reader: connect; the agent, to tell workers' connections from pods'.
 */
BPF_F_TABLE("hash", u64, u8, exempt_cgroups, 64, BPF_F_NO_PREALLOC);

/* netns cookie -> pod, enrolled or left alone.  Writer: agent.  Reader: connect, getsockname. */
BPF_F_TABLE("hash", u64, struct na_pod, pods, 4096, BPF_F_NO_PREALLOC);

/* 0 -> what happens to pods that are not in `pods` yet.  Writer: agent.  Reader: connect. */
BPF_F_TABLE("array", u32, struct na_guard, guard, 1, 0);

/* netns cookie and address -> 1: the pod's own addresses, never touched.  Writer: agent.  Reader: connect. */
BPF_F_TABLE("hash", struct na_own_key, u8, own_addresses, 16384, BPF_F_NO_PREALLOC);

/* address and port (0 = any other) -> what applies there.  Writer: agent.  Reader: connect. */
BPF_F_TABLE("hash", struct na_dest_key, struct na_dest, destinations, 65536, BPF_F_NO_PREALLOC);

/* endpoint set and index -> address and port.  Writer: agent.  Reader: connect. */
BPF_F_TABLE("hash", struct na_ep_key, struct na_ep, endpoints, 262144, BPF_F_NO_PREALLOC);

/*
 * 0 -> CLOCK_MONOTONIC ns until which endpoints are to be trusted; 0 = for ever: nobody else would choose.
 * Writer: agent, as long as it lives.  Reader: connect.
 */
BPF_F_TABLE("array", u32, u64, endpoints_until, 1, 0);

/* 0 -> where pods dialled to.  Writer: connect; agent (mmap), what it found without the hooks.  Reader: agent (mmap). */
BPF_F_TABLE("array", u32, struct na_dialled, dialled, 1, BPF_F_MMAPABLE);

/* L4 verdict table and pod -> verdict.  Writer: agent.  Reader: connect. */
BPF_F_TABLE("hash", struct na_verdict_key, struct na_verdict, verdicts, 262144, BPF_F_NO_PREALLOC);

/* destination -> limit of connections.  Writer: agent; connect: the bucket's state.  Reader: connect. */
BPF_F_TABLE("hash", u32, struct na_rate, connect_rates, 16384, BPF_F_NO_PREALLOC);

/* netns cookie, worker, family -> port on loopback.  Writer: agent.  Reader: connect. */
BPF_F_TABLE("hash", struct na_listener_key, struct na_listener, listeners, 65536, BPF_F_NO_PREALLOC);

/* worker -> CLOCK_MONOTONIC ns of its last beat, 0 = does not accept.  Writer: workers (mmap).  Reader: connect. */
BPF_F_TABLE("array", u32, u64, heartbeats, NA_MAX_WORKERS, BPF_F_MMAPABLE);

/*
 * source of a redirected connection -> what the pod dialled.  Writer: connect (reservation), sock_ops, sock_release.
 * Reader: the worker that accepts, which deletes what it reads; the agent sweeps what nobody took.
 */
BPF_F_TABLE("hash", struct na_orig_key, struct na_orig, originals, 65536, BPF_F_NO_PREALLOC);

/*
 * netns cookie -> sockets that hold a place in `originals` and are not established (see abi.h); signed, because
 * those that ended while the hooks were detached were not taken off.  Writer: connect, sock_ops, sock_release; the
 * agent deletes pods that left.  Reader: connect.
 */
BPF_F_TABLE("hash", u64, s64, in_flight, 8192, BPF_F_NO_PREALLOC);

/* socket -> what was decided for it.  Writer: connect, sock_ops, sock_release.  Reader: every hook. */
BPF_SK_STORAGE(sockets, struct na_socket);

/* workload, destination, outcome, rule -> counters.  Writer: connect, sock_ops.  Reader: /metrics, CLI. */
BPF_F_TABLE("percpu_hash", struct na_conn_key, struct na_conn_stats, connections, 65536, BPF_F_NO_PREALLOC);

/* id -> text, for readers of the counters.  Writer: agent.  Reader: /metrics, CLI. */
BPF_F_TABLE("hash", u32, struct na_name, names, 65536, BPF_F_NO_PREALLOC);

/* Pattern of requests_<worker>: slot -> series.  Writer: that worker (mmap).  Reader: /metrics, CLI. */
BPF_F_TABLE("array", u32, struct na_series, requests, NA_SERIES_PER_WORKER, BPF_F_MMAPABLE);

/* key -> slots held, per worker.  Writer: workers (na_ledger); the agent, for the dead.  Reader: workers, the agent. */
BPF_F_TABLE("hash", u64, struct na_slots, slots, 16384, 0);

/*
 * key -> theoretical arrival time of a token bucket.  A full map forgets the bucket that was unused for longest.
 * Writer: workers (na_ledger).  Reader: workers.
 */
BPF_F_TABLE("lru_hash", u64, u64, buckets, 65536, 0);

/* key -> a retry budget's window.  Writer: workers (na_ledger). */
BPF_F_TABLE("hash", u64, struct na_budget, budgets, 4096, BPF_F_NO_PREALLOC);

/* key -> a record.  Writer: workers (na_record).  Reader: workers. */
BPF_F_TABLE("hash", u64, struct na_record, records, 2048, BPF_F_NO_PREALLOC);

/* 0 -> zeros, which new entries of the ledger begin with.  Never written. */
BPF_F_TABLE("array", u32, struct na_record, blank_record, 1, 0);

/* 0 -> how often a record was replaced.  Writer: workers (na_record).  Reader: workers (mmap). */
BPF_F_TABLE("array", u32, u64, pulse, 1, BPF_F_MMAPABLE);
