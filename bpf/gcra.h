/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Token buckets shared by all CPUs without a lock.  A bucket is one word, the
 * theoretical arrival time of GCRA (ITU-T I.371): a token is there while that
 * time plus one period lies no more than the tolerance (burst x period) ahead.
 */

/* Each failed try is another one's success.  What runs out of tries is told so, and granted nothing. */
#define NA_TRIES 8

/* A shared word as it is now, read once. */
NA_INLINE u64 na_now_in(u64 *word)
{
	return *(volatile u64 *)word;
}

NA_INLINE bool na_swapped(u64 *word, u64 seen, u64 next)
{
	return next == seen || __sync_val_compare_and_swap(word, seen, next) == seen;
}

/*
 * Take `period` ns of tokens (NA_ANSWER_*), if at least `leave` ns of the
 * tolerance would be left.  The clock is read after the bucket: so a time
 * beyond the tolerance was not written by somebody with a later clock, but by a
 * larger limit that the bucket had before.  It then is an empty one, not a debt.
 */
NA_INLINE int na_take_tokens(u64 *tat, u64 period, u64 tolerance, u64 leave, int tries)
{
	int try;

#pragma nounroll
	for (try = 0; try < tries; try++) {
		u64 seen = na_now_in(tat);
		u64 now = bpf_ktime_get_ns();
		u64 from = seen > now + tolerance ? now + tolerance : seen;
		u64 later = (from > now ? from : now) + period;
		bool granted = later - now + leave <= tolerance;

		if (na_swapped(tat, seen, granted ? later : from))
			return granted ? NA_ANSWER_TAKEN : NA_ANSWER_REFUSED;
	}
	return NA_ANSWER_CONTENDED;
}

NA_INLINE int na_take_token(u64 *tat, u64 period, u64 tolerance, int tries)
{
	return na_take_tokens(tat, period, tolerance, 0, tries);
}

/* It was taken under another period if the time is below one: the bucket is full then. */
NA_INLINE void na_put_token_back(u64 *tat, u64 period)
{
	u64 seen = na_now_in(tat);

	if (seen < period)
		__sync_val_compare_and_swap(tat, seen, 0);
	else
		__sync_fetch_and_add(tat, -period);
}
