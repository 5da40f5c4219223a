/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What a socket holds of `originals` and `in_flight` between connect() and the end of its handshake (see abi.h). */
/* Key under which an entry of `originals` is held until the source port is known (see abi.h). */
NA_INLINE void na_reservation(struct na_orig_key *key, u64 netns, u64 cookie)
{
	key->netns = netns;
	key->saddr.w[2] = (u32)cookie;
	key->saddr.w[3] = (u32)(cookie >> 32);
}

/* The socket holds nothing of `originals` any more that its namespace has to answer for. */
NA_INLINE void na_landed(struct na_socket *kept)
{
	u64 netns = kept->netns;
	s64 *count = in_flight.lookup(&netns);

	kept->flight = NA_FLIGHT_NONE;
	if (count)
		__sync_fetch_and_add(count, -1);
}

/* Its SYN will not leave, or another connect() takes its place. */
NA_INLINE void na_unreserve(struct na_socket *kept, u64 cookie)
{
	struct na_orig_key key = {};

	na_reservation(&key, kept->netns, cookie);
	originals.delete(&key);
	na_landed(kept);
}

/* The namespace's count, made on first use; NULL = no room for it. */
NA_INLINE s64 *na_under_way(u64 netns)
{
	s64 *count = in_flight.lookup(&netns);
	s64 zero = 0;

	if (count)
		return count;
	in_flight.insert(&netns, &zero);
	return in_flight.lookup(&netns);
}

/*
 * Room in `originals`, taken before the socket is pointed at a worker.  No
 * namespace gets all of it.  Looking and adding are two steps: a namespace can
 * go over its part by the number of CPUs, which harms nobody.
 */
NA_INLINE bool na_reserve(struct bpf_sock_addr *ctx, const struct na_config *settings, struct na_socket *kept)
{
	struct na_orig value = {.addr = kept->addr, .port = kept->port, .dest = kept->dest};
	struct na_orig_key key = {};
	s64 *count = na_under_way(kept->netns);

	if (!count || *count >= (s64)settings->pod_limit)
		return false;
	value.created_ns = bpf_ktime_get_ns();
	na_reservation(&key, kept->netns, bpf_get_socket_cookie(ctx));
	if (originals.update(&key, &value))
		return false;
	__sync_fetch_and_add(count, 1);
	kept->flight = NA_FLIGHT_RESERVED;
	return true;
}
