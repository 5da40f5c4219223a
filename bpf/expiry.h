/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Endpoints come and go, and only an agent says so.  One that lives renews a
 * time until which those in the maps are to be trusted; after that the choice
 * is left to whoever else serves the Service's address (kube-proxy).
 */
NA_INLINE bool na_endpoints_expired(void)
{
	u32 zero = 0;
	u64 *until = endpoints_until.lookup(&zero);

	return until && *until && bpf_ktime_get_ns() > *until;
}
