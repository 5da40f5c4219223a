// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* cgroup/getpeername6: a pod sees the address that it dialled, not where its connection went. */
#include "helpers.h"

int na_getpeername6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct na_socket *kept;

	if (!sk)
		return 1;
	kept = sockets.sk_storage_get(sk, 0, 0);
	if (!kept)
		return 1;
	ctx->user_ip6[0] = kept->addr.w[0];
	ctx->user_ip6[1] = kept->addr.w[1];
	ctx->user_ip6[2] = kept->addr.w[2];
	ctx->user_ip6[3] = kept->addr.w[3];
	ctx->user_port = kept->port;
	return 1;
}
