// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* cgroup/connect6: connect() of an AF_INET6 socket, IPv4-mapped ones included (connect4 never sees those). */
#include "judge.h"

int na_connect6(struct bpf_sock_addr *ctx)
{
	struct na_dial dial = {.port = (__be16)ctx->user_port};
	int action;

	dial.addr.w[0] = ctx->user_ip6[0];
	dial.addr.w[1] = ctx->user_ip6[1];
	dial.addr.w[2] = ctx->user_ip6[2];
	dial.addr.w[3] = ctx->user_ip6[3];
	dial.family = na_is_mapped(&dial.addr) ? NA_FAMILY_IPV4 : NA_FAMILY_IPV6;
	action = na_judge(ctx, &dial);
	if (action != NA_REWRITE)
		return action;
	ctx->user_ip6[0] = dial.addr.w[0];
	ctx->user_ip6[1] = dial.addr.w[1];
	ctx->user_ip6[2] = dial.addr.w[2];
	ctx->user_ip6[3] = dial.addr.w[3];
	ctx->user_port = dial.port;
	return NA_PASS;
}
