// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * cgroup/sock_release: close() of a socket whose SYN never left.  sock_ops hears
 * nothing of such a one, and its reservation would stay until the sweep: a pod
 * that makes many of them (deferred TCP Fast Open) would fill `originals`.
 */
#include "flight.h"

int na_sock_release(struct bpf_sock *ctx)
{
	struct na_socket *kept = sockets.sk_storage_get(ctx, 0, 0);

	if (kept && kept->flight == NA_FLIGHT_RESERVED)
		na_unreserve(kept, bpf_get_socket_cookie(ctx));
	return 1;
}
