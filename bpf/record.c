// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Replace one record of the ledger (see abi.h) if nobody has since the caller
 * read it.  Run by a worker with BPF_PROG_TEST_RUN, like ledger.c.
 */
NA_INLINE struct na_record *na_record_of(u64 key)
{
	struct na_record *found = records.lookup(&key);
	struct na_record *blank;
	u32 zero = 0;

	if (found)
		return found;
	blank = blank_record.lookup(&zero);
	if (blank)
		records.insert(&key, blank);
	return records.lookup(&key);
}

/*
 * The order is what lets a reader see that it read two versions: both ends are
 * odd, the last one first seen by who reads upwards, before the content changes.
 * Each step is an atomic operation with its result used, so a full barrier.
 */
int na_record(struct na_record_swap *call)
{
	struct na_record *record = na_record_of(call->key);
	u64 seen = call->version * 2;
	u32 zero = 0;
	u64 *beat = pulse.lookup(&zero);
	u32 i;

	if (!record || !beat)
		return NA_ANSWER_FULL;
	if (__sync_val_compare_and_swap(&record->begin, seen, seen + 1) != seen)
		return NA_ANSWER_REFUSED;
	if (__sync_val_compare_and_swap(&record->end, seen, seen + 1) != seen)
		return NA_ANSWER_INVALID;       /* cannot be: only who changed `begin` comes here */
	record->length = call->length;
#pragma unroll
	for (i = 0; i < NA_RECORD_WORDS; i++)
		record->content[i] = call->content[i];
	__sync_val_compare_and_swap(&record->end, seen + 1, seen + 2);
	__sync_val_compare_and_swap(&record->begin, seen + 1, seen + 2);
	__sync_fetch_and_add(beat, 1);
	return NA_ANSWER_TAKEN;
}
