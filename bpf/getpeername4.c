// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* cgroup/getpeername4: a pod sees the address that it dialled, not where its connection went. */
#include "helpers.h"

int na_getpeername4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct na_socket *kept;

	if (!sk)
		return 1;
	kept = sockets.sk_storage_get(sk, 0, 0);
	if (!kept)
		return 1;
	ctx->user_ip4 = kept->addr.w[3];
	ctx->user_port = kept->port;
	return 1;
}
