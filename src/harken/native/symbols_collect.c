/* Which different addresses samples have: each is named once, in ascending order, so that what is looked at for one is near for the next. */
#include <string.h>
#include "symbols.h"

#define KERNEL (UINT64_C(1) << 63)
#define CONTEXT_USER ((uint64_t)-512)
#define CONTEXT_MAX ((uint64_t)-4095)

#define NO_NUMBER UINT32_MAX
#define AHEAD 8   /* samples */
#define DIGIT 11  /* bits that keys are sorted by at once, */
#define RANKED 44 /* of so many, which are a whole number of digits */
#define NEAR 4    /* behind those */

/* Makes the table empty. */
void symbols_forget(struct job *job)
{
	memset(job->slots, 0, sizeof(*job->slots) << job->slot_bits);
	job->key_count = job->text_used = 0;
}

static uint64_t slot_of(const struct job *job, uint64_t address, uint32_t space)
{
	return (address * job->multiplier + space * job->multiplier_of_space) >> (64 - job->slot_bits);
}

/* The number of an address, which gets one if it has none; NO_NUMBER: the table is full. */
static uint32_t number_of(struct job *job, uint64_t address, uint32_t space)
{
	uint64_t mask = (UINT64_C(1) << job->slot_bits) - 1, slot = slot_of(job, address, space);
	uint32_t number;

	for (; (number = job->slots[slot]); slot = (slot + 1) & mask)
		if (job->keys[number - 1].address == address && job->keys[number - 1].space == space)
			return number - 1;
	if (job->key_count >= job->key_room)
		return NO_NUMBER;
	number = (uint32_t)job->key_count++;
	job->keys[number] = (struct key){address, space, number};
	job->slots[slot] = number + 1;
	return number;
}

/* The address of a sample; marks of call chains are none. */
static int collect_address(struct job *job, uint32_t space, uint64_t address)
{
	uint32_t number;

	if (job->id_room - job->id_count < 2)
		return FULL;
	if (address >= CONTEXT_MAX) {
		job->ids[job->id_count++] = 0;
		return DONE;
	}
	number = number_of(job, address, address >= KERNEL ? KERNEL_SPACE : space);
	if (number == NO_NUMBER)
		return FULL;
	job->ids[job->id_count++] = 1;
	job->ids[job->id_count++] = number;
	return DONE;
}

/* A call chain; addresses of the kernel that follow those of the process are stray values of frame pointers. */
static int collect_chain(struct job *job, uint32_t space, const uint64_t *words, uint64_t count)
{
	uint32_t *head = job->ids + job->id_count, *at = head;
	int after_user = 0;

	if (job->id_room - job->id_count <= count)
		return FULL;
	for (uint64_t place = 0; place < count; place++) {
		uint64_t address = words[place];
		uint32_t here = space;

		if (address >= CONTEXT_MAX) {
			after_user = address == CONTEXT_USER;
			continue;
		}
		if (address < KERNEL)
			after_user = address >> 56 != 1;  /* what ends a chain in Python */
		else
			here = after_user ? NOWHERE : KERNEL_SPACE;
		*++at = number_of(job, address, here);
		if (*at == NO_NUMBER)
			return FULL;
	}
	*head = (uint32_t)(at - head);
	job->id_count += *head + UINT64_C(1);
	return DONE;
}

static int collect_sample(struct job *job, uint64_t sample)
{
	uint64_t space;

	if (sample >= job->count)
		return BROKEN;
	space = job->spaces_of[sample];
	if (space >= job->space_count || space >= NOWHERE)
		return BROKEN;
	if (!job->starts)
		return collect_address(job, (uint32_t)space, job->addresses[sample]);
	if (job->starts[sample] > job->word_count || job->lengths[sample] > job->word_count - job->starts[sample])
		return BROKEN;
	return collect_chain(job, (uint32_t)space, job->words + job->starts[sample], job->lengths[sample]);
}

/* Memory is told what will be looked at for samples that follow: first the slot, then the key in it. */
static void look_ahead(const struct job *job, uint64_t at)
{
	for (unsigned int step = 0; step < 2; step++) {
		uint64_t place = at + (step ? AHEAD : 2 * AHEAD), sample, address, slot;
		uint32_t number;

		if (place >= job->count)
			continue;
		sample = job->order ? job->order[place] : place;
		if (sample >= job->count)
			continue;
		address = job->addresses[sample];
		slot = slot_of(job, address, address >= KERNEL ? KERNEL_SPACE : job->spaces_of[sample]);
		if (!step) {
			__builtin_prefetch(&job->slots[slot]);
			continue;
		}
		number = job->slots[slot];
		if (number)
			__builtin_prefetch(&job->keys[number - 1]);
	}
}

/* The part of an address that keys are sorted by: what lies near is found near, and the kernel's are not mixed with others. */
static uint64_t rank_of(const struct key *key)
{
	return key->address >> NEAR & ((UINT64_C(1) << RANKED) - 1);
}

/* Sorts keys by one more digit of their ranks, or of their spaces. */
static void sort_by(const struct key *from, struct key *to, uint64_t count, unsigned int shift, int spaces)
{
	uint32_t starts[1 << DIGIT] = {0}, mask = (1 << DIGIT) - 1, sum = 0;

	for (uint64_t index = 0; index < count; index++)
		starts[(spaces ? from[index].space : rank_of(&from[index])) >> shift & mask]++;
	for (uint32_t value = 0; value <= mask; value++) {
		uint32_t some = starts[value];

		starts[value] = sum;
		sum += some;
	}
	for (uint64_t index = 0; index < count; index++)
		to[starts[(spaces ? from[index].space : rank_of(&from[index])) >> shift & mask]++] = from[index];
}

/* Puts the keys that are pending into the order of spaces and of where they are. */
static void sort_pending(struct job *job)
{
	struct key *from = job->pending, *to = job->spare, *swap;
	uint64_t ranks = 0, spaces = 0, count = job->pending_count;

	for (uint64_t index = 0; index < count; index++) {
		ranks |= rank_of(&from[index]) ^ rank_of(&from[0]);
		spaces |= from[index].space ^ from[0].space;
	}
	for (unsigned int digit = 0; digit < 8; digit++) {
		unsigned int shift = (digit & 3) * DIGIT;

		if (!((digit < 4 ? ranks : spaces) >> shift & ((1 << DIGIT) - 1)))
			continue;
		sort_by(from, to, count, shift, digit >= 4);
		swap = from;
		from = to;
		to = swap;
	}
	if (from != job->pending)
		memcpy(job->pending, from, count * sizeof(*from));
}

/* Of the samples that follow as many as there is room for.  FULL: not even one. */
int symbols_collect(struct job *job)
{
	uint64_t end = job->count - job->at < job->step ? job->count : job->at + job->step;
	int outcome = DONE;

	job->id_count = job->id_at = 0;
	job->first_key = job->key_count;
	for (job->stop = job->at; job->stop < end && outcome == DONE; job->stop += outcome == DONE) {
		if (!job->starts)
			look_ahead(job, job->stop);
		outcome = collect_sample(job, job->order ? job->order[job->stop] : job->stop);
	}
	if (outcome == BROKEN || (outcome == FULL && job->stop == job->at))
		return outcome;
	job->pending_count = job->key_count - job->first_key;
	memcpy(job->pending, job->keys + job->first_key, job->pending_count * sizeof(*job->pending));
	sort_pending(job);
	return DONE;
}
