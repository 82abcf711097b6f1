/* Which different addresses samples have: each is named once, in ascending order, so that what is looked at for one is near for the next. */
#include <string.h>
#include "perf.h"
#include "symbols.h"

#define KERNEL (UINT64_C(1) << 63)
#define CONTEXT_USER ((uint64_t)-512)
#define CONTEXT_MAX ((uint64_t)-4095)

#define NO_NUMBER UINT32_MAX

/* Makes the table empty. */
void symbols_forget(struct job *job)
{
	memset(job->slots, 0, sizeof(*job->slots) << job->slot_bits);
	job->key_count = job->text_used = 0;
}

/* The number of an address, which gets one if it has none; NO_NUMBER: the table is full. */
static uint32_t number_of(struct job *job, uint64_t address, uint32_t space)
{
	uint64_t mask = (UINT64_C(1) << job->slot_bits) - 1;
	uint64_t slot = (address * job->multiplier + space * job->multiplier_of_space) >> (64 - job->slot_bits);
	uint32_t number;

	for (; (number = job->slots[slot]); slot = (slot + 1) & mask)
		if (job->keys[number - 1] == address && job->key_spaces[number - 1] == space)
			return number - 1;
	if (job->key_count >= job->key_room)
		return NO_NUMBER;
	number = (uint32_t)job->key_count++;
	job->keys[number] = address;
	job->key_spaces[number] = space;
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

/* Of the samples that follow as many as there is room for.  FULL: not even one. */
int symbols_collect(struct job *job)
{
	uint64_t end = job->count - job->at < job->step ? job->count : job->at + job->step;
	int outcome = DONE;

	job->id_count = job->id_at = 0;
	job->first_key = job->key_count;
	for (job->stop = job->at; job->stop < end && outcome == DONE; job->stop += outcome == DONE)
		outcome = collect_sample(job, job->order ? job->order[job->stop] : job->stop);
	if (outcome == BROKEN || (outcome == FULL && job->stop == job->at))
		return outcome;
	job->pending_count = job->key_count - job->first_key;
	for (uint64_t place = 0; place < job->pending_count; place++)
		job->pending[place] = (uint32_t)place;
	harken_perf_order((const uint8_t *)(job->keys + job->first_key), 8, job->pending_count, job->pending, job->spare);
	harken_perf_order((const uint8_t *)(job->key_spaces + job->first_key), 4, job->pending_count, job->pending, job->spare);
	return DONE;
}
