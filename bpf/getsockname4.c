// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* cgroup/getsockname4: a redirected socket's own address is the pod's, not the loopback it really uses. */
#include "helpers.h"

int na_getsockname4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct na_socket *kept;
	struct na_pod *pod;

	if (!sk)
		return 1;
	kept = sockets.sk_storage_get(sk, 0, 0);
	if (!kept || kept->outcome != NA_OUT_PROXIED || ctx->user_ip4 != NA_LOOPBACK4)
		return 1;
	pod = pods.lookup(&kept->netns);
	if (pod && pod->ipv4)
		ctx->user_ip4 = pod->ipv4;
	return 1;
}
