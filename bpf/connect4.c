// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* cgroup/connect4: connect() of an AF_INET socket. */
#include "judge.h"

int na_connect4(struct bpf_sock_addr *ctx)
{
	struct na_dial dial = {.family = NA_FAMILY_IPV4, .port = (__be16)ctx->user_port};
	int action;

	dial.addr.w[2] = NA_MAPPED_WORD;
	dial.addr.w[3] = ctx->user_ip4;
	action = na_judge(ctx, &dial);
	if (action != NA_REWRITE)
		return action;
	ctx->user_ip4 = dial.addr.w[3];
	ctx->user_port = dial.port;
	return NA_PASS;
}
