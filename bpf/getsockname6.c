// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* cgroup/getsockname6: as getsockname4, for AF_INET6 sockets, whose connection may be IPv4-mapped. */
#include "helpers.h"

int na_getsockname6(struct bpf_sock_addr *ctx)
{
	struct na_addr local;
	struct bpf_sock *sk = ctx->sk;
	struct na_socket *kept;
	struct na_pod *pod;

	if (!sk)
		return 1;
	kept = sockets.sk_storage_get(sk, 0, 0);
	if (!kept || kept->outcome != NA_OUT_PROXIED)
		return 1;
	local.w[0] = ctx->user_ip6[0];
	local.w[1] = ctx->user_ip6[1];
	local.w[2] = ctx->user_ip6[2];
	local.w[3] = ctx->user_ip6[3];
	pod = pods.lookup(&kept->netns);
	if (!pod || !na_is_loopback(&local) || local.w[3] == 0)
		return 1;
	if (kept->family == NA_FAMILY_IPV4) {
		if (pod->ipv4)
			ctx->user_ip6[3] = pod->ipv4;
		return 1;
	}
	if (!(pod->ipv6.w[0] | pod->ipv6.w[1] | pod->ipv6.w[2] | pod->ipv6.w[3]))
		return 1;
	ctx->user_ip6[0] = pod->ipv6.w[0];
	ctx->user_ip6[1] = pod->ipv6.w[1];
	ctx->user_ip6[2] = pod->ipv6.w[2];
	ctx->user_ip6[3] = pod->ipv6.w[3];
	return 1;
}
