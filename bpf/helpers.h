/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Shared by the hooks.  All functions are inlined: BCC makes programs of the
 * functions that are not static, and its programs cannot call each other.
 */
#define NA_INLINE static __attribute__((always_inline)) inline

#define NA_IPPROTO_TCP 6
#define NA_IPPROTO_UDP 17
#define NA_ECONNREFUSED 111

#define NA_LISTEN 10

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define na_be16(x) ((__be16)__builtin_bswap16(x))
#define na_be32(x) ((__be32)__builtin_bswap32(x))
#else
#define na_be16(x) ((__be16)(x))
#define na_be32(x) ((__be32)(x))
#endif

/*
 * A context field, read where it is written.  Read both sides of a branch that
 * picks between two fields this way and before it: otherwise the compiler picks
 * the *address* first and loads once, which the verifier refuses.
 */
#define NA_CTX(field) (*(volatile typeof(field) *)&(field))

#define NA_MAPPED_WORD na_be32(0xffffu)         /* w[2] of an IPv4-mapped address; w[0] and w[1] are 0 */
#define NA_LOOPBACK4 na_be32(0x7f000001u)

/* helper 187: the errno that connect() returns when the program returns 0 */
static int (*na_set_retval)(int retval) = (void *)187;

NA_INLINE bool na_is_mapped(const struct na_addr *a)
{
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == NA_MAPPED_WORD;
}

/* 127/8, ::1, their mapped forms, 0.0.0.0 and :: */
NA_INLINE bool na_is_loopback(const struct na_addr *a)
{
	if (a->w[0] || a->w[1])
		return false;
	if (a->w[2] == NA_MAPPED_WORD)
		return a->w[3] == 0 || (a->w[3] & na_be32(0xff000000u)) == na_be32(0x7f000000u);
	return a->w[2] == 0 && (a->w[3] == 0 || a->w[3] == na_be32(1));
}

/*
 * The counters of a key, made on first use.  A full map falls back to the key
 * without names, which the loader made for every outcome: totals stay right.
 */
NA_INLINE struct na_conn_stats *na_stats(u32 workload, u32 dest, u32 outcome, u32 rule)
{
	struct na_conn_key key = {.workload = workload, .dest = dest, .outcome = outcome, .rule = rule};
	struct na_conn_stats zero = {};
	struct na_conn_stats *stats = connections.lookup(&key);

	if (stats)
		return stats;
	connections.insert(&key, &zero);        /* not update: another task of this CPU may have counted meanwhile */
	stats = connections.lookup(&key);
	if (stats)
		return stats;
	key.workload = 0;
	key.dest = 0;
	key.rule = 0;
	return connections.lookup(&key);
}

/* Atomic although per CPU: a task in connect() can be preempted by another one. */
NA_INLINE void na_add(u64 *counter, u64 n)
{
	__sync_fetch_and_add(counter, n);
}

NA_INLINE void na_count(u32 workload, u32 dest, u32 outcome, u32 rule)
{
	struct na_conn_stats *stats = na_stats(workload, dest, outcome, rule);

	if (stats)
		na_add(&stats->opened, 1);
}
