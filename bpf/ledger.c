// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The node's ledger (see abi.h): limits that all workers share.  Not in a hook:
 * a worker runs it by BPF_PROG_TEST_RUN, and a run that has begun is finished
 * even if its process is killed meanwhile.  So `total` is the sum of `held`
 * whenever no run is under way.  The arithmetic is that of LocalLedger in
 * nodeagent/core/ledger.py; tests/kernel/test_ledger.py compares the two.
 */
#include "gcra.h"

/* The value that a new entry of any table begins with: too large for the stack. */
NA_INLINE void *na_blank(void)
{
	u32 zero = 0;

	return blank_record.lookup(&zero);
}

/* ---- slots ---- */

NA_INLINE struct na_slots *na_slots_of(u64 *key)
{
	struct na_slots *found = slots.lookup(key);
	struct na_slots *blank;

	if (found)
		return found;
	blank = na_blank();
	if (blank)
		slots.insert(key, blank);
	return slots.lookup(key);
}

NA_INLINE int na_take_slot(struct na_claim *claim, u32 worker)
{
	struct na_slots *found = na_slots_of(&claim->key);
	int try;

	if (!found)
		return NA_ANSWER_FULL;
#pragma nounroll
	for (try = 0; try < NA_TRIES; try++) {
		u64 total = na_now_in(&found->total);

		if (total >= claim->limit)
			return NA_ANSWER_REFUSED;
		if (!na_swapped(&found->total, total, total + 1))
			continue;
		__sync_fetch_and_add(&found->held[worker & (NA_MAX_WORKERS - 1)], 1);
		return NA_ANSWER_TAKEN;
	}
	return NA_ANSWER_CONTENDED;
}

/* At most what the worker holds: a slot given back twice must not make room that is not there. */
NA_INLINE void na_give_slots(struct na_claim *claim, u32 worker, u64 most)
{
	struct na_slots *found = slots.lookup(&claim->key);
	u64 *held;
	u64 n;

	if (!found)
		return;
	held = &found->held[worker & (NA_MAX_WORKERS - 1)];
	n = na_now_in(held);
	n = n < most ? n : most;
	__sync_fetch_and_add(held, -n);
	__sync_fetch_and_add(&found->total, -n);
}

/* ---- token buckets ---- */

NA_INLINE int na_take_from_bucket(struct na_claim *claim)
{
	u64 zero = 0;
	u64 *tat = buckets.lookup(&claim->key);

	if (!tat) {
		buckets.insert(&claim->key, &zero);
		tat = buckets.lookup(&claim->key);
	}
	return tat ? na_take_tokens(tat, claim->period, claim->tolerance, claim->limit, NA_TRIES) : NA_ANSWER_FULL;
}

NA_INLINE void na_put_back(struct na_claim *claim)
{
	u64 *tat = buckets.lookup(&claim->key);

	if (tat)
		na_put_token_back(tat, claim->period);
}

/* ---- retry budgets ---- */

#define NA_LAP_SHIFT 44
#define NA_LAP_MASK 0xfffffull
#define NA_REQUESTS_SHIFT 22
#define NA_COUNT_LIMIT 0x3fffffull

/* Where in the window a time lies. */
struct na_moment {
	u64 lap;                /* which time round, NA_LAP_MASK */
	u64 place;              /* 0 .. NA_WINDOW_SLICES-1 */
};

NA_INLINE struct na_moment na_moment_of(u64 turn)
{
	struct na_moment moment = {.lap = (turn / NA_WINDOW_SLICES) & NA_LAP_MASK, .place = turn % NA_WINDOW_SLICES};

	/* The compiler knows that this is below the length and would leave out the check that older verifiers need. */
	asm volatile("" : "+r"(moment.place));
	if (moment.place >= NA_WINDOW_SLICES)
		moment.place = 0;
	return moment;
}

NA_INLINE struct na_budget *na_budget_of(u64 *key)
{
	struct na_budget *found = budgets.lookup(key);
	struct na_budget *blank;

	if (found)
		return found;
	blank = na_blank();
	if (blank)
		budgets.insert(key, blank);
	return budgets.lookup(key);
}

/* The word of the slice under way: an earlier lap's counts are none. */
NA_INLINE u64 na_of_this_lap(u64 word, u64 lap)
{
	return word >> NA_LAP_SHIFT == lap ? word : lap << NA_LAP_SHIFT;
}

NA_INLINE int na_count_request(struct na_claim *claim)
{
	struct na_budget *budget = na_budget_of(&claim->key);
	int try;

	if (!budget)
		return NA_ANSWER_FULL;
#pragma nounroll
	for (try = 0; try < NA_TRIES; try++) {
		struct na_moment at = na_moment_of(bpf_ktime_get_ns() / claim->slice);
		u64 word = na_now_in(&budget->slices[at.place]);
		u64 current = na_of_this_lap(word, at.lap);
		u64 room = NA_COUNT_LIMIT - ((current >> NA_REQUESTS_SHIFT) & NA_COUNT_LIMIT);
		u64 more = claim->limit < room ? claim->limit : room;

		if (na_swapped(&budget->slices[at.place], word, current + (more << NA_REQUESTS_SHIFT)))
			return NA_ANSWER_TAKEN;
	}
	return NA_ANSWER_CONTENDED;
}

/*
 * Whether retries are below their share of the requests, over the slices of the
 * last time round.  No branches on what was read: the verifier would walk every
 * set of slices.
 */
NA_INLINE bool na_below_share(struct na_budget *budget, const struct na_moment *at, u64 percent)
{
	u64 requests = 0;
	u64 retries = 0;
	u64 place;

#pragma nounroll
	for (place = 0; place < NA_WINDOW_SLICES; place++) {
		u64 word = na_now_in(&budget->slices[place]);
		u64 lap = (at->lap - ((at->place - place) >> 63)) & NA_LAP_MASK;        /* the sign: 1 = after `at` */
		u64 differs = word >> NA_LAP_SHIFT ^ lap;
		u64 counts;

		asm volatile("" : "+r"(differs));       /* not made a comparison */
		counts = (differs - 1) >> 63;
		requests += counts * ((word >> NA_REQUESTS_SHIFT) & NA_COUNT_LIMIT);
		retries += counts * (word & NA_COUNT_LIMIT);
	}
	return retries * 100 < percent * requests;
}

/* *from_floor: 1 if the floor granted it, which undoing has to know. */
NA_INLINE int na_take_retry(struct na_claim *claim, u64 *from_floor)
{
	struct na_budget *budget = na_budget_of(&claim->key);
	int floor, try;

	if (!budget)
		return NA_ANSWER_FULL;
	floor = na_take_token(&budget->floor, claim->period, claim->tolerance, NA_TRIES);
	if (floor == NA_ANSWER_CONTENDED)
		return floor;
#pragma nounroll
	for (try = 0; try < NA_TRIES; try++) {
		struct na_moment at = na_moment_of(bpf_ktime_get_ns() / claim->slice);
		u64 word = na_now_in(&budget->slices[at.place]);
		u64 current = na_of_this_lap(word, at.lap);

		if (floor != NA_ANSWER_TAKEN && !na_below_share(budget, &at, claim->percent))
			return NA_ANSWER_REFUSED;
		if ((current & NA_COUNT_LIMIT) != NA_COUNT_LIMIT)
			current++;
		if (!na_swapped(&budget->slices[at.place], word, current))
			continue;
		*from_floor = floor == NA_ANSWER_TAKEN;
		return NA_ANSWER_TAKEN;
	}
	if (floor == NA_ANSWER_TAKEN)
		na_put_token_back(&budget->floor, claim->period);
	return NA_ANSWER_CONTENDED;
}

/* If a slice ended since, the retry stays counted in it. */
NA_INLINE void na_undo_retry(struct na_claim *claim, u64 from_floor)
{
	struct na_budget *budget = budgets.lookup(&claim->key);
	int try;

	if (!budget)
		return;
	na_put_token_back(&budget->floor, claim->period * from_floor);
#pragma nounroll
	for (try = 0; try < NA_TRIES; try++) {
		struct na_moment at = na_moment_of(bpf_ktime_get_ns() / claim->slice);
		u64 word = na_now_in(&budget->slices[at.place]);
		u64 current = na_of_this_lap(word, at.lap);

		if (na_swapped(&budget->slices[at.place], word, current & NA_COUNT_LIMIT ? current - 1 : current))
			return;
	}
}

/* ---- claims together ---- */

/*
 * Claim i.  The loops over claims are unrolled, since a context is read at fixed
 * offsets only.  Read again before undoing, so that the verifier does not walk
 * every combination of what was taken.
 */
NA_INLINE struct na_claim na_claim_of(struct na_ledger_call *call, u32 i)
{
	struct na_claim claim = {};

	claim.key = NA_CTX(call->claims[i].key);
	claim.kind = NA_CTX(call->claims[i].kind);
	claim.percent = NA_CTX(call->claims[i].percent);
	claim.limit = NA_CTX(call->claims[i].limit);
	claim.slice = NA_CTX(call->claims[i].slice);
	claim.period = NA_CTX(call->claims[i].period);
	claim.tolerance = NA_CTX(call->claims[i].tolerance);
	return claim;
}

NA_INLINE int na_take_claim(struct na_claim *claim, u32 worker, u64 *from_floor)
{
	if (claim->kind == NA_CLAIM_SLOT)
		return na_take_slot(claim, worker);
	if (claim->kind == NA_CLAIM_TOKENS)
		return na_take_from_bucket(claim);
	if (claim->kind == NA_CLAIM_RETRY)
		return na_take_retry(claim, from_floor);
	return na_count_request(claim);
}

NA_INLINE void na_undo_claim(struct na_claim *claim, u32 worker, u64 from_floor)
{
	if (claim->kind == NA_CLAIM_SLOT)
		na_give_slots(claim, worker, 1);
	else if (claim->kind == NA_CLAIM_TOKENS)
		na_put_back(claim);
	else if (claim->kind == NA_CLAIM_RETRY)
		na_undo_retry(claim, from_floor);
}

/* Undo claims before number `taken`; `call->floors` says which retries their floor granted. */
NA_INLINE void na_undo(struct na_ledger_call *call, u32 taken, u32 worker)
{
	u64 floors = NA_CTX(call->floors);
	u32 i;

#pragma unroll
	for (i = 0; i < NA_MAX_CLAIMS; i++) {
		struct na_claim claim = na_claim_of(call, i);

		if (i < taken)
			na_undo_claim(&claim, worker, floors >> i & 1);
	}
}

NA_INLINE int na_take_all(struct na_ledger_call *call, u32 count, u32 worker)
{
	u32 refused = NA_MAX_CLAIMS;
	int answer = NA_ANSWER_TAKEN;
	u64 floors = 0;
	u32 i;

#pragma unroll
	for (i = 0; i < NA_MAX_CLAIMS; i++) {
		struct na_claim claim = na_claim_of(call, i);
		u64 from_floor = 0;

		if (i >= count || refused < NA_MAX_CLAIMS)
			continue;
		answer = na_take_claim(&claim, worker, &from_floor);
		if (answer != NA_ANSWER_TAKEN && claim.kind != NA_CLAIM_REQUEST)
			refused = i;
		floors |= from_floor << i;
	}
	if (refused == NA_MAX_CLAIMS)
		return answer << NA_ANSWER_SHIFT;       /* of requests: why they were not counted */
	NA_CTX(call->floors) = floors;
	na_undo(call, refused, worker);
	return answer << NA_ANSWER_SHIFT | (refused + 1);
}

int na_ledger(struct na_ledger_call *call)
{
	u32 worker = call->worker;
	u32 count = call->count;
	u32 op = call->op;
	u32 i;

	if (worker >= NA_MAX_WORKERS || count > NA_MAX_CLAIMS)
		return NA_ANSWER_INVALID << NA_ANSWER_SHIFT;
	if (op == NA_OP_TAKE)
		return na_take_all(call, count, worker);
#pragma unroll
	for (i = 0; i < NA_MAX_CLAIMS; i++) {
		struct na_claim claim = na_claim_of(call, i);

		if (i >= count)
			continue;
		if (claim.kind == NA_CLAIM_SLOT)
			na_give_slots(&claim, worker, op == NA_OP_GIVE ? 1 : ~0ull);
		else if (claim.kind == NA_CLAIM_TOKENS && op == NA_OP_GIVE)
			na_put_back(&claim);
	}
	return 0;
}
