// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * sock_ops: the life of a socket that connect4/6 judged.  Before the SYN: the
 * original destination under its final key.  At the end: counters.
 */
#include "flight.h"

#define NA_TCP_ESTABLISHED 1
#define NA_TCP_FIN_WAIT1 4
#define NA_TCP_FIN_WAIT2 5
#define NA_TCP_CLOSE 7
#define NA_TCP_CLOSE_WAIT 8
#define NA_TCP_LAST_ACK 9
#define NA_TCP_CLOSING 11
#define NA_TH_FIN 1

NA_INLINE void na_final_key(struct na_orig_key *key, struct bpf_sock_ops *ctx, const struct na_socket *kept)
{
	u32 ip4 = NA_CTX(ctx->local_ip4);
	u32 last = NA_CTX(ctx->local_ip6[3]);
	bool mapped = kept->family == NA_FAMILY_IPV4;   /* sock_ops calls it AF_INET6; the listener does not */

	key->netns = kept->netns;
	key->sport = na_be16(ctx->local_port);
	key->lport = kept->lport;
	key->family = kept->family;
	key->saddr.w[0] = NA_CTX(ctx->local_ip6[0]);
	key->saddr.w[1] = NA_CTX(ctx->local_ip6[1]);
	key->saddr.w[2] = NA_CTX(ctx->local_ip6[2]);
	key->saddr.w[3] = mapped ? ip4 : last;
	if (!mapped)
		return;
	key->saddr.w[0] = 0;
	key->saddr.w[1] = 0;
	key->saddr.w[2] = NA_MAPPED_WORD;
}

/* The source port is known now: swap the reservation for the key that the worker will ask for. */
NA_INLINE void na_on_connect(struct bpf_sock_ops *ctx, struct na_socket *kept)
{
	struct na_orig value = {.addr = kept->addr, .port = kept->port, .dest = kept->dest};
	struct na_orig_key reserved = {};
	struct na_orig_key final = {};

	bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG);
	if (kept->flight != NA_FLIGHT_RESERVED)
		return;
	kept->flight = NA_FLIGHT_SENT;
	na_reservation(&reserved, kept->netns, bpf_get_socket_cookie(ctx));
	originals.delete(&reserved);
	value.created_ns = bpf_ktime_get_ns();
	na_final_key(&final, ctx, kept);
	originals.update(&final, &value);
}

/* 1 if the last byte that the peer acknowledged was our FIN. */
NA_INLINE u64 na_fin_acked(struct bpf_sock_ops *ctx, u32 old)
{
	if (old == NA_TCP_FIN_WAIT2)
		return 1;
	return (old == NA_TCP_LAST_ACK || old == NA_TCP_CLOSING) && ctx->snd_una == ctx->snd_nxt;
}

/* 1 if the peer's FIN was received in order. */
NA_INLINE u64 na_fin_received(struct bpf_sock_ops *ctx, const struct na_socket *kept, u32 old)
{
	if (old == NA_TCP_CLOSE_WAIT || old == NA_TCP_LAST_ACK || old == NA_TCP_CLOSING)
		return 1;
	return kept->fin_seen && kept->fin_end == ctx->rcv_nxt;
}

/* No worker will ask for it.  A socket used before can come here without a SYN: what it holds is a reservation. */
NA_INLINE void na_give_up(struct bpf_sock_ops *ctx, struct na_socket *kept)
{
	struct na_orig_key key = {};

	if (kept->flight == NA_FLIGHT_RESERVED) {
		na_unreserve(kept, bpf_get_socket_cookie(ctx));
	} else if (kept->flight == NA_FLIGHT_SENT) {
		na_final_key(&key, ctx, kept);
		originals.delete(&key);
		na_landed(kept);
	}
}

/*
 * bytes_acked counts our SYN and FIN as a byte each, bytes_received counts the
 * peer's FIN (not its SYN): taken off, so that counters are payload.
 */
NA_INLINE void na_on_close(struct bpf_sock_ops *ctx, struct na_socket *kept, u32 old)
{
	struct na_conn_stats *stats = na_stats(kept->workload, kept->dest, kept->outcome, 0);

	if (!kept->established) {
		if (stats)
			na_add(&stats->failed, 1);
		na_give_up(ctx, kept);
		return;
	}
	if (!stats)
		return;
	na_add(&stats->closed, 1);
	na_add(&stats->tx_bytes, ctx->bytes_acked - 1 - na_fin_acked(ctx, old));
	na_add(&stats->rx_bytes, ctx->bytes_received - na_fin_received(ctx, kept, old));
}

/*
 * In FIN_WAIT the state alone does not say whether the peer's FIN came (close()
 * may have ended the wait before it), so headers are looked at from there on.
 */
NA_INLINE void na_on_state(struct bpf_sock_ops *ctx, struct na_socket *kept)
{
	u32 old = ctx->args[0];
	u32 new = ctx->args[1];

	if (new == NA_TCP_ESTABLISHED) {
		kept->established = 1;
		if (kept->flight == NA_FLIGHT_SENT)
			na_landed(kept);
	} else if (new == NA_TCP_FIN_WAIT1) {
		bpf_sock_ops_cb_flags_set(ctx, BPF_SOCK_OPS_STATE_CB_FLAG | BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG);
	} else if (new == NA_TCP_CLOSE) {
		na_on_close(ctx, kept, old);
	}
}

NA_INLINE void na_on_header(struct bpf_sock_ops *ctx, struct na_socket *kept)
{
	u8 *head = ctx->skb_data;
	u8 *end = ctx->skb_data_end;
	u32 sequence, header_length;

	if (!(ctx->skb_tcp_flags & NA_TH_FIN) || head + 20 > end)
		return;
	sequence = na_be32(*(u32 *)(head + 4));
	header_length = (head[12] >> 4) * 4;
	kept->fin_end = sequence + ctx->skb_len - header_length + 1;
	kept->fin_seen = 1;
}

int na_sock_ops(struct bpf_sock_ops *ctx)
{
	u32 op = ctx->op;
	struct bpf_sock *sk;
	struct na_socket *kept;

	if (op != BPF_SOCK_OPS_TCP_CONNECT_CB && op != BPF_SOCK_OPS_STATE_CB && op != BPF_SOCK_OPS_PARSE_HDR_OPT_CB)
		return 1;
	sk = ctx->sk;
	if (!sk)
		return 1;
	kept = sockets.sk_storage_get(sk, 0, 0);
	if (!kept)
		return 1;
	if (op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		na_on_connect(ctx, kept);
	else if (op == BPF_SOCK_OPS_STATE_CB)
		na_on_state(ctx, kept);
	else
		na_on_header(ctx, kept);
	return 1;
}
