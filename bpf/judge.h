/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What happens to one connect(): the only place that decides it.  connect4 and
 * connect6 bring the dialled address in and carry the answer out.
 */
enum na_action {
	NA_BLOCK = 0,           /* refuse; errno is EPERM unless na_set_retval() said otherwise */
	NA_PASS = 1,
	NA_REWRITE = 2,         /* go to dial->addr, dial->port */
};

struct na_dial {
	struct na_addr addr;    /* in: what the application dials; out, with NA_REWRITE: where it goes */
	__be16 port;
	__u16 pad;
	__u32 family;           /* NA_FAMILY_*, of the packets */
};

/* The caller, as the steps below need it. */
struct na_caller {
	struct na_pod *pod;
	u64 netns;
};

NA_INLINE bool na_bypassed(void)
{
	u32 zero = 0;
	u32 *on = bypass.lookup(&zero);

	return on && *on;
}

NA_INLINE bool na_is_exempt(void)
{
	u64 cgroup = bpf_get_current_cgroup_id();

	return exempt_cgroups.lookup(&cgroup);
}

/*
 * Bytes, since two tasks that set two bits of a word would lose one; and written
 * only where they change, since all CPUs read them.  The hash is that of
 * nodeagent/kernel/dialled.py: addresses of one /16 never share a place.
 */
NA_INLINE void na_note_dialled(const struct na_addr *addr)
{
	u32 zero = 0;
	struct na_dialled *noted = dialled.lookup(&zero);
	u32 hash = 0;
	u8 turn;
	int i;

	if (!noted)
		return;
	for (i = 0; i < 4; i++)
		hash = (hash ^ addr->w[i]) * 0x9e3779b1u;
	hash >>= 16;
	turn = noted->turn;
	if (noted->places[hash] != turn)
		noted->places[hash] = turn;
}

/* A socket that connects again must not keep what an earlier connect() left on it. */
NA_INLINE void na_forget(struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	struct na_socket *kept = sockets.sk_storage_get(sk, 0, 0);

	if (!kept)
		return;
	if (kept->flight == NA_FLIGHT_RESERVED)
		na_unreserve(kept, bpf_get_socket_cookie(ctx));
	else if (kept->flight == NA_FLIGHT_SENT)
		na_landed(kept);
	sockets.sk_storage_delete(sk);
}

NA_INLINE bool na_is_own(u64 netns, const struct na_addr *addr)
{
	struct na_own_key key = {.netns = netns, .addr = *addr};

	return own_addresses.lookup(&key) != NULL;
}

NA_INLINE struct na_dest *na_find_dest(const struct na_dial *dial)
{
	struct na_dest_key key = {.addr = dial->addr, .port = dial->port};
	struct na_dest *dest = destinations.lookup(&key);
	struct na_dest *door;

	if (dest)
		return dest;
	key.port = 0;
	dest = destinations.lookup(&key);
	if (!dest || !(dest->flags & NA_DEST_NODE))
		return dest;
	key.addr.w[0] = 0;
	key.addr.w[1] = 0;
	key.addr.w[2] = dial->family == NA_FAMILY_IPV4 ? NA_MAPPED_WORD : 0;
	key.addr.w[3] = 0;
	key.port = dial->port;
	door = destinations.lookup(&key);
	if (door)
		return door;
	return dest->policy || (dest->flags & ~NA_DEST_NODE) ? dest : NULL;
}

NA_INLINE int na_refuse(const struct na_caller *caller, u32 dest, u32 outcome)
{
	na_count(caller->pod->workload, dest, outcome, 0);
	na_set_retval(-NA_ECONNREFUSED);
	return NA_BLOCK;
}

/*
 * L4 policy: true = may go on.  Anything that is not clearly ALLOW is a deny.
 * *unmet: it goes on, and would not if nothing were in dry run.
 */
NA_INLINE bool na_allowed(const struct na_caller *caller, const struct na_dest *dest, bool *unmet)
{
	struct na_verdict_key key = {.policy = dest->policy, .pod = caller->pod->pod};
	struct na_verdict *found = verdicts.lookup(&key);
	u32 verdict = found ? found->verdict : dest->default_verdict;
	u32 rule = found ? found->rule : 0;

	if (found && (verdict & NA_AUDIT))
		na_count(caller->pod->workload, dest->dest, NA_OUT_AUDITED, found->audit);
	if ((verdict & (NA_ALLOW | NA_DENY)) != NA_ALLOW) {
		na_count(caller->pod->workload, dest->dest, NA_OUT_DENIED, rule);
		return false;
	}
	if (found && (verdict & NA_WOULD_DENY)) {
		na_count(caller->pod->workload, dest->dest, NA_OUT_WOULD_DENY, found->would);
		*unmet = true;
	}
	return true;
}

/* Nobody tries a connect() again as a worker does a claim, so it is tried more often here. */
#define NA_CONNECT_TRIES 32

/*
 * Connections per time to one destination, all callers of the node together: true = may go on.
 * A limit in dry run does not count a connection that would not have come here.
 */
NA_INLINE bool na_within_rate(const struct na_caller *caller, const struct na_dest *dest, bool unmet)
{
	u32 key = dest->dest;
	struct na_rate *rate = connect_rates.lookup(&key);
	bool dry;

	if (!rate || (unmet && (rate->flags & NA_RATE_DRY_RUN)))
		return true;
	if (na_take_token(&rate->tat, rate->period, rate->tolerance, NA_CONNECT_TRIES) == NA_ANSWER_TAKEN)
		return true;
	dry = rate->flags & NA_RATE_DRY_RUN;
	na_count(caller->pod->workload, key, dry ? NA_OUT_WOULD_RATE_LIMIT : NA_OUT_RATE_LIMITED, rate->policy);
	return dry;
}

/* Keep what sock_ops and the name hooks need; NULL when the kernel has no memory for it. */
NA_INLINE struct na_socket *na_remember(struct bpf_sock *sk, const struct na_caller *caller,
					const struct na_dest *dest, const struct na_dial *dialled,
					u32 outcome, __be16 lport)
{
	struct na_socket *kept = sockets.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!kept)
		return NULL;
	kept->addr = dialled->addr;
	kept->port = dialled->port;
	kept->lport = lport;
	kept->pod = caller->pod->pod;
	kept->workload = caller->pod->workload;
	kept->dest = dest->dest;
	kept->outcome = outcome;
	kept->family = dialled->family;
	kept->netns = caller->netns;
	kept->established = 0;
	kept->fin_seen = 0;
	kept->flight = NA_FLIGHT_NONE;
	return kept;
}

/*
 * The workers that beat, as a list of 4-bit numbers; *count is how many.  No
 * branches on what was read: the verifier would walk every set of workers.
 * A beat of 0 (does not accept) reads as one from boot, and is too old.
 */
NA_INLINE u64 na_beating(const struct na_config *settings, u32 *count)
{
	s64 limit = (s64)settings->heartbeat_limit_ms * 1000000;
	u64 now = bpf_ktime_get_ns();
	u64 list = 0;
	u64 n = 0;
	u32 worker;

	for (worker = 0; worker < NA_MAX_WORKERS; worker++) {
		u32 key = worker;
		u64 *beat = heartbeats.lookup(&key);
		u64 fresh;

		if (!beat)
			return 0;
		fresh = (u64)((s64)(now - *beat) - limit) >> 63;        /* the sign: 1 while younger than the limit */
		list |= (worker * fresh) << (4 * n);
		n += fresh;
	}
	*count = n;
	return list;
}

/* The port where this worker listens for this pod; 0 if it does not (a dead worker's socket is gone at once). */
NA_INLINE __be16 na_live_port(struct bpf_sock_addr *ctx, u64 netns, u32 worker, u32 family)
{
	struct na_listener_key key = {.netns = netns, .worker = worker, .family = family};
	struct bpf_sock_tuple tuple = {};
	struct na_listener *listener;
	struct bpf_sock *found;
	bool listens;

	listener = listeners.lookup(&key);
	if (!listener)
		return 0;
	if (family == NA_FAMILY_IPV4) {
		tuple.ipv4.daddr = NA_LOOPBACK4;
		tuple.ipv4.dport = listener->port;
		found = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv6.daddr[3] = na_be32(1);
		tuple.ipv6.dport = listener->port;
		found = bpf_sk_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!found)
		return 0;
	listens = found->state == NA_LISTEN;
	bpf_sk_release(found);
	return listens ? listener->port : 0;
}

/*
 * A socket with a port of its own can reach a listener only once: two services
 * dialled from one source port would otherwise become one 4-tuple.
 */
NA_INLINE bool na_tuple_taken(struct bpf_sock_addr *ctx, struct bpf_sock *sk, u32 family, __be16 lport)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *found;
	bool taken;

	if (family == NA_FAMILY_IPV4) {
		tuple.ipv4.saddr = NA_LOOPBACK4;
		tuple.ipv4.sport = lport;
		tuple.ipv4.daddr = sk->src_ip4 ? sk->src_ip4 : NA_LOOPBACK4;
		tuple.ipv4.dport = na_be16(sk->src_port);
		found = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		tuple.ipv6.saddr[3] = na_be32(1);
		tuple.ipv6.sport = lport;
		tuple.ipv6.daddr[0] = sk->src_ip6[0];
		tuple.ipv6.daddr[1] = sk->src_ip6[1];
		tuple.ipv6.daddr[2] = sk->src_ip6[2];
		tuple.ipv6.daddr[3] = sk->src_ip6[3];
		if (!(tuple.ipv6.daddr[0] | tuple.ipv6.daddr[1] | tuple.ipv6.daddr[2] | tuple.ipv6.daddr[3]))
			tuple.ipv6.daddr[3] = na_be32(1);
		tuple.ipv6.dport = na_be16(sk->src_port);
		found = bpf_skc_lookup_tcp(ctx, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!found)
		return false;
	taken = found->state != NA_LISTEN;
	bpf_sk_release(found);
	return taken;
}

/*
 * A listener for this connect.  Starts at a random one of the workers that beat
 * and tries each of them.  Returns NA_OUT_PROXIED, or why there is none.
 */
NA_INLINE u32 na_choose(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct na_config *settings,
			u64 netns, u32 family, __be16 *lport)
{
	u32 reason = NA_OUT_BYPASS_NO_WORKER;
	u32 count = 0;
	u64 list = na_beating(settings, &count);
	u32 start, i;

	if (count == 0)
		return reason;
	start = bpf_get_prandom_u32() % count;
	for (i = 0; i < NA_MAX_WORKERS; i++) {
		u32 turn = start + i;
		u32 worker;
		__be16 port;

		if (i >= count)
			break;
		if (turn >= count)
			turn -= count;
		worker = (list >> (4 * (turn & 15))) & 15;
		port = na_live_port(ctx, netns, worker, family);
		if (!port)
			continue;
		if (sk->bound_dev_if || (sk->src_port && na_tuple_taken(ctx, sk, family, port))) {
			reason = NA_OUT_BYPASS_SOURCE_PORT;
			continue;
		}
		*lport = port;
		return NA_OUT_PROXIED;
	}
	return reason;
}

/*
 * Rung 3.  Returns NA_OUT_PROXIED with dial rewritten, or which way the connect
 * misses the proxy.  What the caller itself can bring about (a port in the way,
 * a full map, no memory for its socket) is no way around an L7 rule, whatever
 * the fail mode; that no worker lives, it cannot.
 */
NA_INLINE u32 na_redirect(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct na_config *settings,
			  const struct na_caller *caller, const struct na_dest *dest, struct na_dial *dial)
{
	bool closed = caller->pod->flags & NA_POD_FAIL_CLOSED;
	bool enforced = dest->flags & NA_DEST_ENFORCE;
	struct na_socket *kept;
	__be16 lport = 0;
	u32 outcome = na_choose(ctx, sk, settings, caller->netns, dial->family, &lport);

	if (outcome == NA_OUT_BYPASS_SOURCE_PORT)
		return enforced ? NA_OUT_REFUSED_SOURCE_PORT : outcome;
	if (outcome == NA_OUT_BYPASS_NO_WORKER)
		return closed ? NA_OUT_REFUSED_NO_WORKER : outcome;
	kept = na_remember(sk, caller, dest, dial, NA_OUT_PROXIED, lport);
	if (!kept || !na_reserve(ctx, settings, kept)) {
		na_forget(ctx, sk);
		return closed || enforced ? NA_OUT_REFUSED_FULL : NA_OUT_BYPASS_FULL;
	}
	dial->addr.w[0] = 0;
	dial->addr.w[1] = 0;
	dial->addr.w[2] = dial->family == NA_FAMILY_IPV4 ? NA_MAPPED_WORD : 0;
	dial->addr.w[3] = dial->family == NA_FAMILY_IPV4 ? NA_LOOPBACK4 : na_be32(1);
	dial->port = lport;
	return NA_OUT_PROXIED;
}

/* A random member of the frontend's endpoint set, of the family of the packets; NULL = none. */
NA_INLINE struct na_ep *na_pick(const struct na_dest *dest, u32 family)
{
	struct na_ep_key key = {.ep_set = dest->ep_set};
	u32 count = dest->ep_count;
	struct na_ep *ep;

	if (count == 0)
		return NULL;
	key.index = bpf_get_prandom_u32() % count;
	ep = endpoints.lookup(&key);
	if (!ep || na_is_mapped(&ep->addr) != (family == NA_FAMILY_IPV4))
		return NULL;
	return ep;
}

/* Rung 1, also where fail mode lets a connect go on without the proxy (which its outcome says then, expired or not). */
NA_INLINE int na_direct(struct bpf_sock *sk, const struct na_caller *caller, const struct na_dest *dest,
			struct na_dial *dial, u32 outcome)
{
	struct na_ep *ep = NULL;

	if (dest->flags & NA_DEST_FRONTEND) {
		bool expired = na_endpoints_expired();

		if (expired && outcome == NA_OUT_DIRECT)
			outcome = NA_OUT_DIRECT_EXPIRED;
		ep = expired ? NULL : na_pick(dest, dial->family);
		if (!ep && !expired)
			return na_refuse(caller, dest->dest, NA_OUT_NO_ENDPOINT);
	}
	na_remember(sk, caller, dest, dial, outcome, 0);
	na_count(caller->pod->workload, dest->dest, outcome, 0);
	if (!ep)
		return NA_PASS;
	na_note_dialled(&ep->addr);
	dial->addr = ep->addr;
	dial->port = ep->port;
	return NA_REWRITE;
}

NA_INLINE bool na_is_refusal(u32 outcome)
{
	return outcome == NA_OUT_REFUSED_NO_WORKER || outcome == NA_OUT_REFUSED_FULL ||
	       outcome == NA_OUT_REFUSED_SOURCE_PORT;
}

/* A TCP connect of an enrolled pod to a configured destination. */
NA_INLINE int na_judge_dest(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct na_config *settings,
			    const struct na_caller *caller, const struct na_dest *dest, struct na_dial *dial)
{
	u32 outcome = NA_OUT_DIRECT;
	bool unmet = false;

	if (dest->flags & NA_DEST_REFUSE) {
		na_count(caller->pod->workload, dest->dest, NA_OUT_DENIED_UNENFORCEABLE, 0);
		return NA_BLOCK;
	}
	if (dest->policy && !na_allowed(caller, dest, &unmet))
		return NA_BLOCK;
	if ((dest->flags & NA_DEST_RATE) && !na_within_rate(caller, dest, unmet)) {
		na_set_retval(-NA_ECONNREFUSED);
		return NA_BLOCK;
	}
	if (dest->flags & NA_DEST_PROXY)
		outcome = na_redirect(ctx, sk, settings, caller, dest, dial);
	if (outcome == NA_OUT_PROXIED) {
		na_count(caller->pod->workload, dest->dest, outcome, 0);
		return NA_REWRITE;
	}
	if (na_is_refusal(outcome))
		return na_refuse(caller, dest->dest, outcome);
	return na_direct(sk, caller, dest, dial, outcome);
}

/* A caller that is not enrolled passes; where a rule would have judged it, it is counted. */
NA_INLINE void na_note_unjudged(struct bpf_sock_addr *ctx, const struct na_dial *dial)
{
	struct na_dest *dest;

	if (ctx->protocol != NA_IPPROTO_TCP || na_is_loopback(&dial->addr))
		return;
	dest = na_find_dest(dial);
	if (dest && (dest->policy || (dest->flags & (NA_DEST_ENFORCE | NA_DEST_REFUSE))))
		na_count(0, dest->dest, NA_OUT_UNJUDGED, 0);
}

/*
 * Is the caller below the kubelet's cgroup?  How deep that one lies, user space
 * cannot tell where it is in a cgroup namespace, as in a container.
 */
NA_INLINE bool na_in_kubepods(const struct na_guard *rule)
{
	int level;

	for (level = 1; level <= NA_GUARD_DEPTH; level++)
		if (bpf_get_current_ancestor_cgroup_id(level) == rule->kubepods)
			return true;
	return false;
}

/*
 * A caller whose namespace the agent has not classified: a pod that has only
 * just started, or no pod of ours.  Only a pod's TCP is policed, so only that
 * is refused.
 */
NA_INLINE int na_judge_unclassified(struct bpf_sock_addr *ctx, struct na_config *settings, const struct na_dial *dial)
{
	struct na_guard *rule;
	u32 beating = 0;
	u32 zero = 0;

	if (ctx->protocol != NA_IPPROTO_TCP || na_is_loopback(&dial->addr))
		return NA_PASS;
	rule = guard.lookup(&zero);
	if (!rule || !rule->kubepods || !na_in_kubepods(rule)) {
		na_note_unjudged(ctx, dial);
		return NA_PASS;
	}
	na_beating(settings, &beating);
	if (beating ? rule->refuse : rule->refuse_away) {
		na_count(0, 0, NA_OUT_UNCLASSIFIED_REFUSED, 0);
		na_set_retval(-NA_ECONNREFUSED);
		return NA_BLOCK;
	}
	na_count(0, 0, NA_OUT_UNCLASSIFIED_DIRECT, 0);
	na_note_unjudged(ctx, dial);
	return NA_PASS;
}

NA_INLINE int na_judge(struct bpf_sock_addr *ctx, struct na_dial *dial)
{
	struct na_caller caller = {};
	struct bpf_sock *sk = ctx->sk;
	struct na_config *settings;
	struct na_dest *dest;
	u32 zero = 0;

	if (!sk || (ctx->protocol != NA_IPPROTO_TCP && ctx->protocol != NA_IPPROTO_UDP))
		return NA_PASS;
	na_forget(ctx, sk);
	if (na_is_exempt())
		return NA_PASS;
	if (na_bypassed()) {
		na_note_dialled(&dial->addr);
		return NA_PASS;
	}
	settings = config.lookup(&zero);
	if (!settings)
		return NA_PASS;
	caller.netns = bpf_get_netns_cookie(ctx);
	caller.pod = pods.lookup(&caller.netns);
	if (!caller.pod)
		return na_judge_unclassified(ctx, settings, dial);
	if (caller.pod->flags & NA_POD_PASS) {
		na_note_unjudged(ctx, dial);
		return NA_PASS;
	}
	if (na_is_loopback(&dial->addr) || na_is_own(caller.netns, &dial->addr))
		return NA_PASS;
	if (ctx->protocol == NA_IPPROTO_UDP) {
		na_count(caller.pod->workload, 0, NA_OUT_UDP, 0);
		return NA_PASS;
	}
	na_note_dialled(&dial->addr);   /* before it is known where that leads: the agent writes a rule, then looks here */
	dest = na_find_dest(dial);
	if (!dest) {
		na_count(caller.pod->workload, 0, NA_OUT_UNKNOWN, 0);
		return NA_PASS;
	}
	return na_judge_dest(ctx, sk, settings, &caller, dest, dial);
}
