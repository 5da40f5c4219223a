/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Structs and constants that BPF programs and Python share.
 * Twin: nodeagent/kernel/abi.py; tests/kernel/test_abi.py compares sizes and
 * offsets by compiling this file with the host's cc.  Everything is padded by
 * hand: a hidden hole would become uninitialised bytes in a map key.
 *
 * Addresses are 16 bytes in wire order; IPv4 is kept IPv4-mapped
 * (::ffff:a.b.c.d), so that one key shape serves connect4, connect6 and mapped
 * connects.  Ports named `port` are wire order (__be16) unless said otherwise.
 */
#ifndef NODEAGENT_ABI_H
#define NODEAGENT_ABI_H

/* Part of the pin path: bump when a pinned map's layout or meaning changes. */
#define NA_LAYOUT_VERSION 4

#define NA_MAX_WORKERS 16
#define NA_FAMILY_IPV4 4
#define NA_FAMILY_IPV6 6

struct na_addr {
	__u32 w[4];             /* wire order */
};

/* ---- node-wide settings: map `config`, one element ---- */
struct na_config {
	__u32 heartbeat_limit_ms; /* a worker whose beat is older is not chosen (2000) */
	__u32 orig_limit;       /* redirects in flight allowed before fail mode applies: max_entries of `originals`, set at its creation */
	__u32 pod_limit;        /* connects that one namespace may have under way to workers (`in_flight`): a part of orig_limit */
	__u32 pad;
	char  instance[96];     /* "cgroup=... bpffs=..." of the owner, NUL-terminated: for refusal messages */
};

/*
 * ---- who: map `pods`, key = netns cookie (__u64) ----
 * Every namespace that the agent has classified: enrolled pods, and with
 * NA_POD_PASS those that are left alone, the node's own among them.
 */
#define NA_POD_FAIL_CLOSED 1    /* no live worker = refused instead of direct */
#define NA_POD_PASS        2    /* not enrolled: of the fields below only the addresses count */
struct na_pod {
	__u32 pod;              /* id of the pod: key half of `verdicts` */
	__u32 workload;         /* id in `names`: source of counters */
	__u32 flags;
	__be32 ipv4;            /* what getsockname shows for a redirected IPv4 socket; 0 = leave */
	struct na_addr ipv6;    /* the same for IPv6; all zero = leave */
};

/* ---- who is not in `pods`, and below the kubelet's cgroup: map `guard`, one element ---- */
struct na_guard {
	__u64 kubepods;         /* id of that cgroup; 0 = there is none, and nobody is asked for */
	__u32 refuse;           /* 1 = refused until classified; 0 = passed and counted */
	__u32 refuse_away;      /* the same while no worker beats: nobody may be there to classify */
};
#define NA_GUARD_DEPTH 8        /* so many cgroups may be above it, itself included */

/* map `own_addresses`: key -> __u8 1; the pod's own addresses are loopback to it */
struct na_own_key {
	__u64 netns;
	struct na_addr addr;
};

/*
 * ---- where: map `destinations`, looked up by (address, port), then (address, 0) ----
 * Where the second is a node's, (0.0.0.0, port) or (::, port) comes first: what applies at a node port, whichever
 * node is dialled.
 */
struct na_dest_key {
	struct na_addr addr;
	__be16 port;
	__u16 pad;
};
#define NA_DEST_PROXY    1      /* rung 3: to a worker's listener */
#define NA_DEST_ENFORCE  2      /* an L7 rule protects it: nothing that the caller can bring about is a way around it */
#define NA_DEST_REFUSE   4      /* a rule that cannot be enforced (DENY on a port that is not HTTP/1, a broken policy): deny */
#define NA_DEST_FRONTEND 8      /* a Service address: choose an endpoint from ep_set on rung 1 */
#define NA_DEST_RATE     16     /* connections are limited: `connect_rates` has how */
#define NA_DEST_NODE     32     /* with port 0: the address is a node's */
struct na_dest {
	__u32 dest;             /* id in `names` */
	__u32 flags;
	__u32 ep_set;           /* endpoint set of a frontend; sets are immutable, a change is a new set */
	__u32 ep_count;         /* 0 with NA_DEST_FRONTEND = no ready endpoint */
	__u32 policy;           /* id of an immutable L4 verdict table in `verdicts`; 0 = no L4 policy */
	__u32 default_verdict;  /* NA_ALLOW or NA_DENY for a pod without an entry in `verdicts` */
};

struct na_ep_key {
	__u32 ep_set;
	__u32 index;            /* 0 .. ep_count-1 */
};
struct na_ep {
	struct na_addr addr;
	__be16 port;
	__u16 pad;
};

/* map `connect_rates`, key = `dest`: a token bucket (gcra.h) for the connects of all pods of the node */
#define NA_RATE_DRY_RUN 1       /* over the limit is counted, and nothing else */
struct na_rate {
	__u64 period;           /* ns per connection */
	__u64 tolerance;        /* ns, burst x period */
	__u64 tat;              /* theoretical arrival time: the hooks' own */
	__u32 flags;
	__u32 policy;           /* id in `names` of the RateLimitPolicy */
};

/*
 * ---- where pods dialled to past the workers: map `dialled`, one element ----
 * A place per hash of an address (na_note_dialled), which several may share: the
 * agent learns from it where no connection can be, and looks only elsewhere.
 */
#define NA_DIALLED_PLACES 65536
struct na_dialled {
	__u32 turn;             /* the agent begins a new one when many places are in use */
	__u8  places[NA_DIALLED_PLACES]; /* low byte of the turn in which an address was last dialled */
};

#define NA_ALLOW 1
#define NA_DENY  2
#define NA_AUDIT 4              /* bit: count an audit match as well */
#define NA_WOULD_DENY 8         /* bit, with NA_ALLOW: a policy in dry run would deny; counted as well */
struct na_verdict_key {
	__u32 policy;
	__u32 pod;
};
struct na_verdict {
	__u32 verdict;
	__u32 rule;             /* id in `names` of the AuthorizationPolicy that decided; 0 = the default */
	__u32 audit;            /* with NA_AUDIT: id in `names` of the AUDIT policy that matched */
	__u32 would;            /* with NA_WOULD_DENY: id in `names` of the policy in dry run */
};

/* ---- listeners of the workers inside the pods' namespaces ---- */
struct na_listener_key {
	__u64 netns;
	__u32 worker;
	__u32 family;
};
struct na_listener {
	__be16 port;            /* on 127.0.0.1 or ::1 */
	__u16 pad;
};

/*
 * ---- original destination of a redirected socket ----
 * connect4/6 first *reserve* an entry, since the source port is not known yet
 * and a full map must be noticed while fail mode can still apply: family 0,
 * sport 0, the socket's cookie in saddr.w[2..3].  sock_ops replaces the
 * reservation by the real key just before the SYN leaves.  So what is in
 * flight is what is in the map.
 *
 * What a namespace may hold of it is bounded by `in_flight`: sockets that
 * reserved and are not established yet.  Those that are, wait in a listener's
 * accept queue, which has a bound of its own.
 */
struct na_orig_key {
	__u64 netns;
	struct na_addr saddr;   /* source address of the redirected socket, mapped for IPv4 */
	__be16 sport;
	__be16 lport;           /* the listener's port: one source port may be used towards two listeners */
	__u32 family;           /* NA_FAMILY_*, of the packets: a mapped connect is IPv4; 0 = a reservation */
};
struct na_orig {
	struct na_addr addr;
	__be16 port;
	__u16 pad;
	__u32 dest;
	__u64 created_ns;       /* CLOCK_MONOTONIC */
};

/* ---- per-socket state (SK_STORAGE `sockets`) ---- */
struct na_socket {
	struct na_addr addr;    /* what the application dialled */
	__be16 port;
	__be16 lport;           /* rung 3: the listener's port */
	__u32 pod;
	__u32 workload;
	__u32 dest;
	__u32 outcome;
	__u32 family;           /* of the packets: NA_FAMILY_* */
	__u64 netns;
	__u32 established;      /* 1 once the handshake was completed */
	__u32 fin_end;          /* sequence number after the peer's FIN, if one was seen while we were closing */
	__u32 fin_seen;         /* 1 = fin_end is set */
	__u32 flight;           /* NA_FLIGHT_*: what this socket holds of `originals` and `in_flight` */
};
#define NA_FLIGHT_NONE     0    /* nothing, or no more: established or ended */
#define NA_FLIGHT_RESERVED 1    /* a reservation: its SYN has not left (and may never: deferred TCP Fast Open) */
#define NA_FLIGHT_SENT     2    /* the final key: in SYN_SENT */

/* ---- counters: per-CPU hash `connections` ---- */
enum na_outcome {
	NA_OUT_DIRECT = 1,              /* rung 1 */
	NA_OUT_PROXIED = 2,             /* rung 3 */
	NA_OUT_DENIED = 3,              /* L4 policy */
	NA_OUT_DENIED_UNENFORCEABLE = 4,/* NA_DEST_REFUSE */
	NA_OUT_NO_ENDPOINT = 5,
	NA_OUT_BYPASS_NO_WORKER = 6,    /* fail mode Open */
	NA_OUT_REFUSED_NO_WORKER = 7,   /* fail mode Closed */
	NA_OUT_BYPASS_FULL = 8,         /* too many redirects in flight, Open */
	NA_OUT_REFUSED_FULL = 9,
	NA_OUT_BYPASS_SOURCE_PORT = 10, /* bound source port or device that no listener can serve */
	NA_OUT_REFUSED_SOURCE_PORT = 11,
	NA_OUT_AUDITED = 12,            /* connects that an AUDIT rule matched; counted beside the real outcome */
	NA_OUT_UDP = 13,                /* connected UDP sockets of enrolled pods: passed, counted (dest 0) */
	NA_OUT_UNKNOWN = 14,            /* enrolled pod, destination not in the configuration: passed (dest 0) */
	/* written by the agent, `opened` only, dest 0: connections inside pods that it found or ended */
	NA_OUT_DRAINED = 15,            /* direct connections ended because a rule first covered them */
	NA_OUT_UNPOLICED = 16,          /* connections found that are older than their pod's enrolment */
	NA_OUT_CUT = 17,                /* ... and ended because the namespace asks for it */
	NA_OUT_UNJUDGED = 18,           /* a caller that is not enrolled, to a destination with a rule: passed (no workload) */
	NA_OUT_RATE_LIMITED = 19,       /* over the destination's limit of connections */
	NA_OUT_WOULD_RATE_LIMIT = 20,   /* ... in dry run; counted beside the real outcome */
	NA_OUT_WOULD_DENY = 21,         /* L4 policy in dry run; counted beside the real outcome */
	NA_OUT_UNCLASSIFIED_DIRECT = 22,/* a pod's namespace that is not in `pods` yet: passed (no workload, dest 0) */
	NA_OUT_UNCLASSIFIED_REFUSED = 23,
	NA_OUT_DIRECT_EXPIRED = 24,     /* rung 1, endpoint not chosen: no agent has renewed them for long (expiry.h) */
};
struct na_conn_key {
	__u32 workload;
	__u32 dest;
	__u32 outcome;
	__u32 rule;             /* denies, audits, limits: the policy's id in `names`; else 0 */
};
struct na_conn_stats {
	__u64 opened;           /* connect() calls judged so */
	__u64 closed;           /* sockets that reached TCP_CLOSE after being established */
	__u64 tx_bytes;         /* payload, from the pod; added at close */
	__u64 rx_bytes;
	__u64 failed;           /* reached TCP_CLOSE without being established */
};

/* ---- id -> text, pinned beside the counters so that they can be read with the agent dead ---- */
#define NA_NAME_WORKLOAD 1      /* "namespace/workload/serviceaccount" */
#define NA_NAME_DEST 2          /* "namespace/service:port" or "address:port" */
#define NA_NAME_POLICY 3        /* "namespace/name" */
#define NA_NAME_POD 4           /* "namespace/name@netns cookie#identity": key half of `verdicts`; deleted with the pod */
#define NA_NAME_NEXT 5          /* key 0: text is the next free id in decimal, so that no id is used twice */
struct na_name {
	__u32 kind;
	char text[252];         /* NUL-terminated */
};

/* ---- requests: one BPF_F_MMAPABLE array per worker, pinned as requests_<worker> ---- */
#define NA_SERIES_PER_WORKER 2048       /* slot 0 is the overflow series */
#define NA_BUCKETS 16
struct na_series {
	__u64 used;             /* 1 once `labels` is complete; written last */
	__u64 requests;
	__u64 request_bytes;
	__u64 response_bytes;
	__u64 duration_us;
	__u64 buckets[NA_BUCKETS];
	char labels[856];       /* JSON list of values, in the order of SERIES_LABELS in abi.py; NUL-terminated */
};

/*
 * ---- the ledger: limits shared by all workers (nodeagent/core/ledger.py) ----
 * Keys are 64-bit hashes of names.  Workers change these maps only by running
 * the programs `na_ledger` and `na_record`, and read them by look-up.
 */
struct na_slots {
	__u64 total;            /* the sum of `held` */
	__u64 held[NA_MAX_WORKERS];
};

#define NA_WINDOW_SLICES 10
struct na_budget {
	__u64 floor;            /* theoretical arrival time of the bucket that the floor is */
	__u64 slices[NA_WINDOW_SLICES]; /* each from the top: 20 bits which time round the window, 22 requests, 22 retries */
};

#define NA_RECORD_WORDS 254
struct na_record {
	__u64 begin;            /* twice the version; odd while it is written */
	__u64 length;           /* bytes of `content` in use */
	__u64 content[NA_RECORD_WORDS];
	__u64 end;              /* as `begin`: where they differ, or are odd, what was read is torn */
};

#define NA_MAX_CLAIMS 8
#define NA_CLAIM_SLOT    1
#define NA_CLAIM_TOKENS  2
#define NA_CLAIM_REQUEST 3
#define NA_CLAIM_RETRY   4
struct na_claim {
	__u64 key;
	__u32 kind;             /* NA_CLAIM_* */
	__u32 percent;          /* retry: its share of the requests */
	__u64 limit;            /* slot; tokens: ns that must be left; request: how many are counted */
	__u64 slice;            /* request, retry: ns of a slice of the window */
	__u64 period;           /* tokens: ns of all that are taken; the floor of a retry: ns per token */
	__u64 tolerance;        /* ns, burst x period */
};

#define NA_OP_TAKE 1
#define NA_OP_GIVE 2            /* the slots and tokens among the claims */
#define NA_OP_REAP 3            /* all slots of them that the worker holds: it is dead */
struct na_ledger_call {
	__u32 op;
	__u32 worker;
	__u32 count;
	__u32 floors;           /* the program's own: bit i = retry i was granted by its floor */
	struct na_claim claims[NA_MAX_CLAIMS];
};
struct na_record_swap {
	__u64 key;
	__u64 version;          /* that the caller read; 0 = there was none */
	__u64 length;
	__u64 content[NA_RECORD_WORDS];
};

/*
 * What `na_record` returns.  `na_ledger`: the same shifted up, and below it the
 * number from 1 of the claim that it is about, 0 = none was refused.
 */
#define NA_ANSWER_SHIFT 8
#define NA_ANSWER_CLAIM 0xff
#define NA_ANSWER_TAKEN     0
#define NA_ANSWER_REFUSED   1
#define NA_ANSWER_FULL      2   /* no room for a new key, or no memory */
#define NA_ANSWER_CONTENDED 3   /* others were always faster: try again */
#define NA_ANSWER_INVALID   4

#endif
